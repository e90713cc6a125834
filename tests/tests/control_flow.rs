//! Branches and loops of the run: their emitted code, and what it computes.

use edgec::Config;
use edgec_runtime::Level;
use edgec_tests::{cargo, control_flow, success, write};

fn config() -> Config {
    Config::new()
        .package("control_flow")
        .model(control_flow().name("control_flow"))
        .levels([Level::Scalar, Level::V3])
}

#[test]
fn layers_stand_in_branches_and_loops() {
    let files = config().package_files().unwrap();
    let text = files.iter().filter(|f| f.path.starts_with("src/") && !f.path.starts_with("src/rt/"));
    let text: String = text.filter_map(|f| std::str::from_utf8(&f.bytes).ok()).collect();
    let part = |from: &str, to: &str| {
        let start = text.find(from).unwrap();
        let end = start + text[start..].find(to).unwrap() + to.len();
        text[start..end].to_owned()
    };
    let run = part("fn run_level", "\n}\n");
    let check = part("rt::plan::check_regions", ";\n");
    insta::assert_snapshot!("control_flow", format!("{run}\n{check}"));
}

#[test]
fn the_run_decides() {
    let dir = tempfile::tempdir().unwrap();
    edgec::emit::write(&dir.path().join("control_flow"), &config().package_files().unwrap()).unwrap();
    write(
        &dir.path().join("Cargo.toml"),
        "[workspace]\nresolver = \"2\"\nmembers = [\"control_flow\", \"app\"]\n",
    );
    write(
        &dir.path().join("app/Cargo.toml"),
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n\
         control_flow = { path = \"../control_flow\" }\n",
    );
    write(&dir.path().join("app/src/main.rs"), APP);
    success("cargo run", &cargo(dir.path(), &["run", "--offline", "-q", "-p", "app"]));
    let clippy = [
        "clippy",
        "--offline",
        "-q",
        "-p",
        "control_flow",
        "--all-targets",
        "--",
        "-D",
        "warnings",
        "-D",
        "clippy::all",
    ];
    success("cargo clippy", &cargo(dir.path(), &clippy));
}

const APP: &str = r#"
use control_flow::{Bool, Inputs, Level, Model};

fn main() {
    let x = [[1.0f32, -2.0, 3.0], [-1.0, 0.5, 0.25]];
    for level in Level::ALL {
        // The arena keeps what the run before left there.
        let mut arena = control_flow::Arena::new();
        for (deep, n, times) in [(true, 0, 0), (true, 3, 3), (false, 3, 0), (true, 1000, 5), (true, -1, 0)] {
            let Some(mut model) = Model::new(&mut arena).with_level(level) else { continue };
            let out = model.run(Inputs { x: &x, deep: &Bool::from(deep), n: &n });
            let wanted = |row: usize, column: usize| match deep {
                true => x[row][column] * [2.0f32, 3.0][row].powi(times),
                false => x[row][column].max(0.0),
            };
            for row in 0..2 {
                for column in 0..3 {
                    assert_eq!(out.y[row][column], wanted(row, column), "{deep} {n}");
                    assert_eq!(out.sums[row][column], x[row][column..].iter().rev().sum::<f32>());
                }
            }
            assert_eq!(*out.times, i64::from(times), "{deep} {n}");
        }
    }
}
"#;
