//! Random cases for operators: shapes, attributes, element types and operands that are known or not, with results by the
//! reference evaluation, for `edgec verify` to hold generated code against.

mod classical;
mod elementwise;
mod integers;
mod movement;
mod products;
mod reductions;
mod sequences;
mod windows;

use edgec::frontend::{Options, load_model};
use edgec::interp;
use edgec::ir::{DType, Tensor, bf16, f16};
use edgec::onnx::text::parse_model;
use edgec::onnx::{ExternalData, encode_tensor, proto::ModelProto};
use prost::Message;
use std::cell::Cell;
use std::path::Path;

/// Operator sets of every case.
const HEADER: &str = "<ir_version: 10, opset_import: [\"\": 22, \"com.microsoft\": 1, \"ai.onnx.ml\": 3]>";

/// Nodes per model: so many that building is shared, so few that a failure is found.
const NODES: usize = 24;

/// What writes the cases of a family.
pub type Family = fn(&mut Draw);

/// All families by name.
pub const FAMILIES: &[(&str, Family)] = &[
    ("unary", elementwise::unary),
    ("binary", elementwise::binary),
    ("compare", elementwise::compare),
    ("bits", elementwise::bits),
    ("several", elementwise::several),
    ("cast", elementwise::cast),
    ("views", movement::views),
    ("parts", movement::parts),
    ("gather", movement::gather),
    ("scatter", movement::scatter),
    ("fill", movement::fill),
    ("reduce", reductions::reduce),
    ("order", reductions::order),
    ("softmax", reductions::softmax),
    ("norm", reductions::norm),
    ("matmul", products::matmul),
    ("einsum", products::einsum),
    ("attention", products::attention),
    ("conv", windows::conv),
    ("pool", windows::pool),
    ("resize", windows::resize),
    ("sample", windows::sample),
    ("recurrent", sequences::recurrent),
    ("fourier", sequences::fourier),
    ("scale", integers::scale),
    ("integer_products", integers::products),
    ("qlinear", integers::qlinear),
    ("ml", classical::ml),
];

/// A reproducible source of numbers.
#[derive(Debug, Clone)]
pub struct Random(Cell<u64>);

impl Random {
    /// For a family and a round.
    pub fn new(seed: u64, name: &str) -> Self {
        let mix = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        Random(Cell::new(
            name.bytes().fold(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xcbf2_9ce4_8422_2325, mix),
        ))
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..n`.
    pub fn below(&self, n: usize) -> usize {
        (self.next() >> 16) as usize % n.max(1)
    }

    /// In `from..=to`.
    pub fn range(&self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    /// In `from..=to`.
    pub fn int(&self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as usize) as i64
    }

    /// True once in `n` times.
    pub fn once_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of a list.
    pub fn of<T: Copy>(&self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// In random order.
    pub fn shuffle<T>(&self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

/// Which numbers a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// From -4 to 4 in eighths; integers over the whole of a byte, or from -100 to 100.
    Any,
    /// From an eighth to 4; integers from 1 to 100.
    Positive,
    /// From -7/8 to 7/8; integers from -1 to 1.
    Unit,
    /// Integers of this range, in any type.
    Whole(i64, i64),
}

/// How close results must be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Precision {
    /// As `edgec verify` demands where nothing is said: integers are equal.
    Usual,
    /// Floats of 16 bits take part: results may be a step apart.
    Sixteen,
    /// Sums, products and means of quantized values have a definition of their own in fixed point (docs/internals/quantization.md),
    /// within a step of the operator's.
    Step,
}

impl Precision {
    /// Part of the model's name, and `case.json`.
    fn texts(self) -> (&'static str, Option<&'static str>) {
        match self {
            Precision::Usual => ("", None),
            Precision::Sixteen => ("_16bit", Some(r#"{"rtol": 0.016, "atol": 0.004}"#)),
            Precision::Step => ("_step", Some(r#"{"tolerance": [{"steps": 1}]}"#)),
        }
    }
}

/// A node by itself, with its operands.
#[derive(Debug, Clone)]
struct Case {
    label: String,
    inputs: Vec<(String, Tensor)>,
    constants: Vec<(String, Tensor)>,
    line: String,
    results: Vec<String>,
    precision: Precision,
}

/// Draws cases.
#[derive(Debug)]
pub struct Draw {
    /// Where numbers come from.
    pub random: Random,
    inputs: Vec<(String, Tensor)>,
    constants: Vec<(String, Tensor)>,
    cases: Vec<Case>,
}

/// The tensor of a type that is nearest to these numbers.
pub fn tensor(dtype: DType, shape: &[usize], at: impl Fn(usize) -> f64) -> Tensor {
    macro_rules! of {
        ($t:ty) => {
            Tensor::from_fn::<$t>(shape, |i| at(i) as $t)
        };
    }
    match dtype {
        DType::F32 => of!(f32),
        DType::F64 => of!(f64),
        DType::F16 => Tensor::from_fn(shape, |i| f16::from_f64(at(i))),
        DType::Bf16 => Tensor::from_fn(shape, |i| bf16::from_f64(at(i))),
        DType::I8 => of!(i8),
        DType::I16 => of!(i16),
        DType::I32 => of!(i32),
        DType::I64 => of!(i64),
        DType::U8 => of!(u8),
        DType::U16 => of!(u16),
        DType::U32 => of!(u32),
        DType::U64 => of!(u64),
        DType::Bool => Tensor::from_fn(shape, |i| at(i) != 0.0),
        other => panic!("no tensors of {other} are drawn"),
    }
}

impl Draw {
    /// An empty list.
    pub fn new(random: Random) -> Self {
        Draw { random, inputs: Vec::new(), constants: Vec::new(), cases: Vec::new() }
    }

    /// Extents from 1 to `most`, as many as `ranks` says.
    pub fn shape(&mut self, ranks: std::ops::RangeInclusive<usize>, most: usize) -> Vec<usize> {
        let rank = self.random.range(*ranks.start(), *ranks.end());
        (0..rank).map(|_| self.random.range(1, most)).collect()
    }

    /// Random numbers.
    pub fn tensor(&mut self, dtype: DType, shape: &[usize], values: Values) -> Tensor {
        let n: usize = shape.iter().product();
        let signed = dtype.is_float() || matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
        let (low, high, unit) = match (values, dtype) {
            (_, DType::Bool) => (0, 1, 1.0),
            (Values::Whole(low, high), _) => (low, high, 1.0),
            (Values::Any, d) if d.is_float() => (-32, 32, 8.0),
            (Values::Positive, d) if d.is_float() => (1, 32, 8.0),
            (Values::Unit, d) if d.is_float() => (-7, 7, 8.0),
            (Values::Any, DType::I8) => (-128, 127, 1.0),
            (Values::Any, DType::U8) => (0, 255, 1.0),
            (Values::Any, _) => (-100, 100, 1.0),
            (Values::Positive, _) => (1, 100, 1.0),
            (Values::Unit, _) => (-1, 1, 1.0),
        };
        let low = if signed { low } else { low.max(0) };
        let numbers: Vec<f64> = (0..n).map(|_| self.random.int(low, high) as f64 / unit).collect();
        tensor(dtype, shape, |i| numbers[i])
    }

    fn name(&self) -> String {
        format!("x{}_{}", self.cases.len(), self.inputs.len() + self.constants.len())
    }

    /// An operand that the run gives.
    pub fn input(&mut self, tensor: Tensor) -> String {
        let name = self.name();
        self.inputs.push((name.clone(), tensor));
        name
    }

    /// An operand that is known when compiling.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        let name = self.name();
        self.constants.push((name.clone(), tensor));
        name
    }

    /// An operand of either kind.
    pub fn either(&mut self, tensor: Tensor) -> String {
        if self.random.once_in(2) { self.constant(tensor) } else { self.input(tensor) }
    }

    /// A random operand that the run gives.
    pub fn data(&mut self, dtype: DType, shape: &[usize], values: Values) -> String {
        let tensor = self.tensor(dtype, shape, values);
        self.input(tensor)
    }

    /// A random operand of either kind.
    pub fn weight(&mut self, dtype: DType, shape: &[usize], values: Values) -> String {
        let tensor = self.tensor(dtype, shape, values);
        self.either(tensor)
    }

    /// A known vector of integers.
    pub fn ints(&mut self, list: &[i64]) -> String {
        let tensor = Tensor::vector(list);
        self.constant(tensor)
    }

    /// Ends a case: the operands drawn since the last one go into this node, such as `Softmax <axis = 1>`. `of`, the type
    /// that its label names, is that which the node is about.
    pub fn node(&mut self, op: &str, of: DType, operands: &[&str], results: usize) {
        let number = self.cases.len();
        let (inputs, constants) = (std::mem::take(&mut self.inputs), std::mem::take(&mut self.constants));
        let word: String = op.chars().take_while(|c| c.is_alphanumeric() || *c == '.').collect();
        let label = format!("{}_{}", word.replace('.', "_"), of.short_name());
        let results: Vec<String> = (0..results).map(|r| format!("y{number}_{r}_{label}")).collect();
        let line = format!("{} = {op} ({})", results.join(", "), operands.join(", "));
        let half = |d: DType| matches!(d, DType::F16 | DType::Bf16);
        let halves = half(of) || inputs.iter().chain(&constants).any(|(_, t)| half(t.dtype()));
        let precision = match word.as_str() {
            "com.microsoft.QLinearAdd"
            | "com.microsoft.QLinearMul"
            | "com.microsoft.QLinearAveragePool"
            | "com.microsoft.QLinearGlobalAveragePool" => Precision::Step,
            _ if halves => Precision::Sixteen,
            _ => Precision::Usual,
        };
        self.cases.push(Case { label, inputs, constants, line, results, precision });
    }
}

fn model_of(cases: &[Case]) -> Result<ModelProto, String> {
    let formals: Vec<String> = cases
        .iter()
        .flat_map(|c| &c.inputs)
        .map(|(name, t)| {
            let dims: Vec<String> = t.shape().iter().map(usize::to_string).collect();
            let dims = if dims.is_empty() { String::new() } else { format!("[{}]", dims.join(", ")) };
            format!("{}{dims} {name}", t.dtype().onnx_name())
        })
        .collect();
    let results: Vec<&str> = cases.iter().flat_map(|c| &c.results).map(String::as_str).collect();
    let lines: Vec<&str> = cases.iter().map(|c| c.line.as_str()).collect();
    let text = format!(
        "{HEADER}\nagraph ({}) => ({}) {{\n{}\n}}",
        formals.join(", "),
        results.join(", "),
        lines.join("\n")
    );
    let mut model = parse_model(&text).map_err(|e| format!("{e}\n{text}"))?;
    if let Some(graph) = &mut model.graph {
        let constants = cases.iter().flat_map(|c| &c.constants);
        graph.initializer = constants.map(|(name, t)| encode_tensor(name, t)).collect();
    }
    Ok(model)
}

/// What became of a family's cases.
#[derive(Debug, Default)]
pub struct Written {
    /// Nodes per label that are in the suite.
    pub labels: Vec<String>,
    /// Nodes that the compiler refuses, and why.
    pub refused: Vec<String>,
}

/// Draws a family's cases and writes them below `folder` in the ONNX test layout, as few models of many nodes.
pub fn write(
    folder: &Path,
    name: &str,
    family: Family,
    seed: u64,
) -> Result<Written, Box<dyn std::error::Error>> {
    let mut draw = Draw::new(Random::new(seed, name));
    family(&mut draw);
    let mut written = Written::default();
    let mut kept = Vec::new();
    for case in draw.cases {
        let alone = model_of(std::slice::from_ref(&case))?;
        let graph = match load_model(&alone, &ExternalData::none(), &Options::default()) {
            Ok(imported) => imported.graph,
            Err(e) => {
                let operands: Vec<String> = case
                    .inputs
                    .iter()
                    .chain(&case.constants)
                    .map(|(n, t)| format!("{n}: {}{:?}", t.dtype(), t.shape().dims()))
                    .collect();
                written.refused.push(format!("{} with {}: {e}", case.line, operands.join(", ")));
                continue;
            }
        };
        let inputs: Vec<Tensor> = case.inputs.iter().map(|(_, t)| t.clone()).collect();
        let results = interp::run(&graph, &inputs).map_err(|e| format!("{}: {e}", case.line))?;
        written.labels.push(case.label.clone());
        kept.push((case, results));
    }
    for precision in [Precision::Usual, Precision::Sixteen, Precision::Step] {
        let (kind, tolerance) = precision.texts();
        let cases: Vec<_> = kept.iter().filter(|(c, _)| c.precision == precision).collect();
        for (i, chunk) in cases.chunks(NODES).enumerate() {
            let dir = folder.join(format!("{name}{kind}_{seed}_{i}"));
            let set = dir.join("test_data_set_0");
            std::fs::create_dir_all(&set)?;
            let nodes: Vec<Case> = chunk.iter().map(|(c, _)| c.clone()).collect();
            std::fs::write(dir.join("model.onnx"), model_of(&nodes)?.encode_to_vec())?;
            if let Some(text) = tolerance {
                std::fs::write(dir.join("case.json"), text)?;
            }
            let put = |kind: &str, i: usize, name: &str, t: &Tensor| {
                std::fs::write(set.join(format!("{kind}_{i}.pb")), encode_tensor(name, t).encode_to_vec())
            };
            for (i, (name, t)) in nodes.iter().flat_map(|c| &c.inputs).enumerate() {
                put("input", i, name, t)?;
            }
            let results = chunk.iter().flat_map(|(c, r)| c.results.iter().zip(r));
            for (i, (name, t)) in results.enumerate() {
                put("output", i, name, t)?;
            }
        }
    }
    Ok(written)
}
