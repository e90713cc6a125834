//! Integer operators node by node: given the inputs that the QDQ form has, each says what the QDQ form says, within one
//! step.
//!
//! The model as imported is evaluated in real numbers between DequantizeLinear and QuantizeLinear. Then the model as the passes
//! leave it is walked; each value that both have is taken from the former once the node that makes it has been compared,
//! so that no difference reaches another node.
//!
//! Models: the integers among those in the folder that `EDGEC_MODELS` names (default `../shared/models` beside the workspace)
//! with at most 30 million multiplications, first sample; `EDGEC_ALL_MODELS=1` takes all (use `--release`).

use edgec::frontend::{Options, load};
use edgec::ir::{DType, Tensor, ValueId};
use edgec::onnx::read_npy;
use edgec::onnx::text::parse_model;
use edgec::ops::{Graph, OpKind};
use edgec::{interp, passes};
use prost::Message;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const QUICK_MACS: u64 = 30_000_000;

/// What was compared.
#[derive(Debug, Default)]
struct Compared {
    /// Integers that both forms have.
    values: usize,
    /// Operators of integers that the compiler made, whose results are such.
    nodes: usize,
    /// Those whose results are compared once they have been moved, or put together.
    behind: usize,
    elements: usize,
    /// Elements that were a step off.
    off: usize,
}

/// The reference's value as the walked graph has it: signed bytes may have become unsigned ones, 128 higher.
fn as_type(tensor: &Tensor, dtype: DType) -> Option<Tensor> {
    if tensor.dtype() == dtype {
        return Some(tensor.clone());
    }
    let bytes = tensor.as_slice::<i8>().filter(|_| dtype == DType::U8)?;
    let moved: Vec<u8> = bytes.iter().map(|&b| (i16::from(b) + 128) as u8).collect();
    Tensor::new(tensor.shape().clone(), moved).ok()
}

/// Compares the graph as the passes leave it with itself as imported.
fn compare(name: &str, imported: &Graph, inputs: &[Tensor]) -> Compared {
    let mut reference: BTreeMap<ValueId, Tensor> = BTreeMap::new();
    interp::run_observed(imported, inputs, &mut |v, t| drop(reference.insert(v, t.clone())))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut graph = imported.clone();
    let log = passes::optimize(&mut graph).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(log.float_steps.is_empty(), "{name}: {:?}", log.float_steps);
    let mut known: BTreeMap<ValueId, Tensor> = BTreeMap::new();
    known.extend(graph.inputs.iter().copied().zip(inputs.iter().cloned()));
    let mut compared = Compared::default();
    for (_, node) in graph.nodes() {
        let operands: Vec<Option<&Tensor>> =
            node.inputs.iter().map(|v| v.and_then(|v| graph.constant(v).or_else(|| known.get(&v)))).collect();
        let results = node.op.as_op().eval(&operands).unwrap_or_else(|e| panic!("{name}: {e}"));
        let integer = matches!(
            node.op,
            OpKind::ProductI8(_) | OpKind::BinaryI8(_) | OpKind::SoftmaxI8(_) | OpKind::ByteTable(_)
        );
        let mut shared = false;
        for (v, found) in node.outputs.iter().zip(results) {
            let Some(v) = *v else { continue };
            let of_bytes = matches!(found.dtype(), DType::U8 | DType::I8);
            // Numbers of values are never reused, but a shape may have changed: then it is another value.
            let wanted = reference.get(&v).filter(|t| t.shape() == found.shape());
            match wanted.and_then(|t| as_type(t, found.dtype())) {
                Some(wanted) => {
                    if of_bytes {
                        (compared.values, shared) = (compared.values + 1, true);
                        let pair = wanted.to_i64_vec().unwrap().into_iter().zip(found.to_i64_vec().unwrap());
                        for (at, (w, f)) in pair.enumerate() {
                            compared.elements += 1;
                            compared.off += usize::from(w != f);
                            let value = &graph.value(v).name;
                            assert!(
                                (w - f).abs() <= 1,
                                "{name}: {} `{value}`[{at}] is {f} instead of {w}",
                                node.op.as_op().name()
                            );
                        }
                    }
                    known.insert(v, wanted);
                }
                None => drop(known.insert(v, found)),
            }
        }
        compared.nodes += usize::from(integer && shared);
        compared.behind += usize::from(integer && !shared);
    }
    println!("{name}: {compared:?}");
    compared
}

/// A residual block, a mean, an activation, a product with a scale for each channel, a concatenation.
const MODEL: &str = "<ir_version: 10, opset_import: [\"\" : 21]>
    g (float[1, 4, 6, 6] x) => (float[1, 8, 1, 1] mean, float[1, 8, 6, 6] both)
    <float sx = {0.04}, uint8 zx = {120}, float[4] sw = {0.02, 0.013, 0.031, 0.008}, float ss = {0.06}, uint8 zs = {131},
     float sa = {0.083}, uint8 za = {117}, float st = {0.008}, uint8 zt = {127}, float sm = {0.01}, int8 zm = {-5},
     int8[4, 4, 3, 3] w = {12, -100, 33, 7, 90, -27, 55, -64, 3, 120, -8, 71, -33 ...}, int8[4] zw = {0, 0, 0, 0}>
    {
        xq = QuantizeLinear(x, sx, zx)
        xd = DequantizeLinear(xq, sx, zx)
        wd = DequantizeLinear <axis = 0> (w, sw, zw)
        c = Conv <pads = [1, 1, 1, 1]> (xd, wd)
        cq = QuantizeLinear(c, ss, zs)
        cd = DequantizeLinear(cq, ss, zs)
        a = Add(cd, xd)
        aq = QuantizeLinear(a, sa, za)
        ad = DequantizeLinear(aq, sa, za)
        t = Tanh(ad)
        tq = QuantizeLinear(t, st, zt)
        td = DequantizeLinear(tq, st, zt)
        b = Concat <axis = 1> (ad, td)
        bq = QuantizeLinear(b, sa, za)
        both = DequantizeLinear(bq, sa, za)
        m = GlobalAveragePool(both)
        mq = QuantizeLinear(m, sm, zm)
        mean = DequantizeLinear(mq, sm, zm)
    }";

#[test]
fn each_operator_is_within_a_step() {
    let bytes = parse_model(MODEL).expect("it parses").encode_to_vec();
    let imported =
        edgec::frontend::ModelFile::from_bytes(&bytes).unwrap().import(&Options::default()).unwrap();
    let mut graph = imported.graph;
    graph.remove_dead();
    let x = Tensor::from_fn([1, 4, 6, 6], |i| ((i * 37 + 11) % 101) as f32 * 0.1 - 5.0);
    assert!(compare("text", &graph, &[x]).nodes >= 3);
}

#[test]
fn each_operator_of_the_models_is_within_a_step() {
    let root = match std::env::var_os("EDGEC_MODELS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models"),
    };
    let all = std::env::var_os("EDGEC_ALL_MODELS").is_some();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path()).collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !(name.contains("int8") || name.contains("qoperator")) {
            continue;
        }
        let Ok(imported) = load(&folder.join("model.onnx"), &Options::default()) else { continue };
        let mut graph = imported.graph;
        graph.remove_dead();
        let info = std::fs::read_to_string(folder.join("info.json")).unwrap_or_default();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap_or_default();
        if !all && info["macs_estimate"].as_u64().is_some_and(|m| m > QUICK_MACS) {
            println!("{name}: left out");
            continue;
        }
        let inputs: Option<Vec<Tensor>> = (0..graph.inputs.len())
            .map(|i| read_npy(&std::fs::read(folder.join(format!("set_0/input_{i}.npy"))).ok()?).ok())
            .collect();
        let Some(inputs) = inputs else { continue };
        compare(&name, &graph, &inputs);
    }
}
