//! `edgec inspect`.

use super::args::InspectArgs;
use crate::config::ModelConfig;
use crate::diag::Diagnostics;
use crate::{pipeline, report};

/// The command.
pub fn inspect(args: &InspectArgs) -> Result<(), Diagnostics> {
    let config = args.model.config()?;
    let model = args.model.model(ModelConfig::file(&args.file).io(args.io))?;
    let compiled = pipeline::compile(&model, &config)?;
    let facts = report::report(&compiled);
    if let Some(path) = &args.html {
        std::fs::write(path, report::html(&facts))
            .map_err(|e| super::environment(format!("`{}`: {e}", path.display())))?;
    }
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&facts).unwrap_or_default()));
    } else {
        super::remark(&compiled.remarks);
        if args.model.verbose {
            super::say(&compiled.log.to_string());
        }
        super::print(&report::terminal(&facts));
    }
    Ok(())
}
