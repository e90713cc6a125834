//! [SVMClassifier](https://onnx.ai/onnx/operators/onnx_aionnxml_SVMClassifier.html) and
//! [SVMRegressor](https://onnx.ai/onnx/operators/onnx_aionnxml_SVMRegressor.html): kernels of rows and support
//! vectors, weighed by matrix products; votes and probabilities as ONNX Runtime computes them.

use super::composite::{Composite, INTERNAL, Script};
use super::ml_post::{Labels, Post, both, rows};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operand: rows of features, computed in `f32`. Results: scores or probabilities, behind labels for the
/// classifier.
pub struct Svm;

/// Attributes that both operators have.
struct Machine {
    kind: Kind,
    gamma: f64,
    coef0: f64,
    degree: f64,
    vectors: Vec<f32>,
    coefficients: Vec<f32>,
    rho: Vec<f32>,
    width: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

impl Machine {
    fn read(attrs: &mut AttrReader<'_>, width: usize) -> Result<Self, OpError> {
        let text = attrs.text("kernel_type")?.unwrap_or("LINEAR");
        let kind = match text {
            "LINEAR" => Kind::Linear,
            "POLY" => Kind::Poly,
            "RBF" => Kind::Rbf,
            "SIGMOID" => Kind::Sigmoid,
            _ => return Err(OpError::invalid(format!("attribute `kernel_type` is `{text}`"))),
        };
        let params = attrs.floats("kernel_params")?.unwrap_or_default();
        let param = |i: usize| params.get(i).copied().map_or(0.0, f64::from);
        let mut list =
            |name: &str| -> Result<Vec<f32>, OpError> { Ok(attrs.floats(name)?.unwrap_or_default()) };
        Ok(Machine {
            kind,
            gamma: param(0),
            coef0: param(1),
            degree: param(2),
            vectors: list("support_vectors")?,
            coefficients: list("coefficients")?,
            rho: list("rho")?,
            width,
        })
    }

    /// The kernel of each row of `x` with each row of `vectors`: `[rows, vectors]`.
    fn kernel(&self, s: &mut Script, x: &str, vectors: &[f32]) -> Result<String, OpError> {
        let count = vectors.len().checked_div(self.width).unwrap_or(0);
        if count == 0 || count * self.width != vectors.len() {
            return Err(OpError::invalid(format!("{} numbers of vectors of {}", vectors.len(), self.width)));
        }
        let matrix = s.tensor(Tensor::new::<f32>([count, self.width], vectors)?);
        if self.kind == Kind::Rbf {
            let distance = s.op(&format!("{INTERNAL}.SquaredDistance"), &[x, &matrix]);
            let gamma = s.scalar(DType::F32, -self.gamma)?;
            let scaled = s.op("Mul", &[&distance, &gamma]);
            return Ok(s.op("Exp", &[&scaled]));
        }
        let product = s.op("Gemm <transB = 1>", &[x, &matrix]);
        if self.kind == Kind::Linear {
            return Ok(product);
        }
        let [gamma, coef0, degree] = [
            s.scalar(DType::F32, self.gamma)?,
            s.scalar(DType::F32, self.coef0)?,
            s.scalar(DType::F32, self.degree)?,
        ];
        let scaled = s.op("Mul", &[&product, &gamma]);
        let shifted = s.op("Add", &[&scaled, &coef0]);
        Ok(if self.kind == Kind::Poly {
            s.op("Pow", &[&shifted, &degree])
        } else {
            s.op("Tanh", &[&shifted])
        })
    }

    fn first_rho(&self) -> Result<f64, OpError> {
        self.rho.first().copied().map(f64::from).ok_or_else(|| OpError::invalid("attribute `rho` is empty"))
    }
}

impl Composite for Svm {
    const NAMES: &'static [OnnxName] = &[
        OnnxName { domain: "ai.onnx.ml", op_type: "SVMClassifier", since: 1 },
        OnnxName { domain: "ai.onnx.ml", op_type: "SVMRegressor", since: 1 },
    ];

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        let mut s = Script::new(&["x"]);
        let (x, _, width, _) = rows(&mut s, &inputs.required(0)?, "x", false)?;
        let machine = Machine::read(attrs, width)?;
        let post = Post::read(attrs)?;
        if node.op_type == "SVMRegressor" {
            let one_class = attrs.int_or("one_class", 0)? != 0;
            let count = super::walk::extent(attrs.int_or("n_supports", 0)?)?;
            let y = regression(&mut s, &machine, &x, one_class, count)?;
            // ONNX Runtime leaves `post_transform` of a regression aside.
            return s.finish(&[&y]);
        }
        let labels = Labels::read(attrs, "classlabels_ints", "classlabels_strings")?;
        let per_class = attrs.ints("vectors_per_class")?.unwrap_or_default();
        let (prob_a, prob_b) =
            (attrs.floats("prob_a")?.unwrap_or_default(), attrs.floats("prob_b")?.unwrap_or_default());
        if per_class.is_empty() {
            // No support vectors: the coefficients of one class each.
            let scores = machine.kernel(&mut s, &x, &machine.coefficients)?;
            let rho = s.scalar(DType::F32, machine.first_rho()?)?;
            let scores = s.op("Add", &[&scores, &rho]);
            if machine.coefficients.len() != labels.len() * width {
                return Err(OpError::invalid(format!("coefficients for other than {} labels", labels.len())));
            }
            let at = s.op("ArgMax <axis = 1, keepdims = 0>", &[&scores]);
            let label = labels.pick(&mut s, &at)?;
            let y = match labels.len() {
                1 => post.single(&mut s, &scores, DType::F32)?,
                _ => post.rows(&mut s, &scores, DType::F32)?,
            };
            return s.finish(&[&label, &y]);
        }
        let (label, y) = pairwise(&mut s, &machine, &x, &labels, &per_class, &prob_a, &prob_b, post)?;
        s.finish(&[&label, &y])
    }
}

fn regression(
    s: &mut Script,
    m: &Machine,
    x: &str,
    one_class: bool,
    count: usize,
) -> Result<String, OpError> {
    let rho = s.scalar(DType::F32, m.first_rho()?)?;
    let sum = if count == 0 {
        m.kernel(s, x, &m.coefficients)?
    } else {
        if m.vectors.len() != count.saturating_mul(m.width) || m.coefficients.len() != count {
            return Err(OpError::invalid(format!("vectors or coefficients for other than {count} supports")));
        }
        let kernel = m.kernel(s, x, &m.vectors)?;
        let weights = s.tensor(Tensor::new::<f32>([count, 1], m.coefficients.clone())?);
        s.op("MatMul", &[&kernel, &weights])
    };
    let sum = s.op("Add", &[&sum, &rho]);
    if !one_class {
        return Ok(sum);
    }
    let [zero, one, minus] =
        [s.scalar(DType::F32, 0.0)?, s.scalar(DType::F32, 1.0)?, s.scalar(DType::F32, -1.0)?];
    let inside = s.op("Greater", &[&sum, &zero]);
    Ok(s.op("Where", &[&inside, &one, &minus]))
}

/// Largest number of weights of pairs; they grow as the square of the classes.
const MAX_WEIGHTS: usize = 1 << 26;

/// One decision for each pair of classes, by votes; with probabilities where the model has them.
#[allow(clippy::too_many_arguments)]
fn pairwise(
    s: &mut Script,
    m: &Machine,
    x: &str,
    labels: &Labels,
    per_class: &[i64],
    prob_a: &[f32],
    prob_b: &[f32],
    post: Post,
) -> Result<(String, String), OpError> {
    let classes = per_class.len();
    let counts: Vec<usize> = per_class.iter().map(|&n| super::walk::extent(n)).collect::<Result<_, _>>()?;
    let supports = m.vectors.len().checked_div(m.width).unwrap_or(0);
    let pairs = classes.saturating_mul(classes.saturating_sub(1)) / 2;
    let weights = supports.checked_mul(pairs).filter(|&n| n <= MAX_WEIGHTS);
    let Some(weights) = weights else {
        return Err(OpError::Limit(format!("{classes} classes are too many")));
    };
    let sum = counts.iter().fold(0usize, |a, &b| a.saturating_add(b));
    let fits = classes >= 2
        && labels.len() == classes
        && sum == supports
        && m.coefficients.len() == supports * (classes - 1)
        && m.rho.len() == pairs
        && prob_a.len() == prob_b.len()
        && (prob_a.is_empty() || prob_a.len() == pairs);
    if !fits {
        return Err(OpError::invalid(format!(
            "attributes do not fit {classes} classes of {supports} vectors"
        )));
    }
    let mut start = vec![0];
    for n in &counts {
        start.push(start.last().copied().unwrap_or(0) + n);
    }
    // Column `p` of the matrix weighs the support vectors of the pair's two classes.
    let mut matrix = vec![0f32; weights];
    let mut votes = vec![0f32; pairs * classes];
    let mut against = vec![0f32; classes];
    let mut p = 0;
    for i in 0..classes {
        for j in i + 1..classes {
            for v in start[i]..start[i + 1] {
                matrix[v * pairs + p] = m.coefficients[(j - 1) * supports + v];
            }
            for v in start[j]..start[j + 1] {
                matrix[v * pairs + p] = m.coefficients[i * supports + v];
            }
            votes[p * classes + i] = 1.0;
            votes[p * classes + j] = -1.0;
            against[j] += 1.0;
            p += 1;
        }
    }
    let kernel = m.kernel(s, x, &m.vectors)?;
    let matrix = s.tensor(Tensor::new::<f32>([supports, pairs], matrix)?);
    let rho = s.tensor(Tensor::vector(&m.rho));
    let scores = s.op("Gemm", &[&kernel, &matrix, &rho]);

    let zero = s.scalar(DType::F32, 0.0)?;
    let wins = s.op("Greater", &[&scores, &zero]);
    let wins = s.cast(&wins, DType::F32);
    let votes = s.tensor(Tensor::new::<f32>([pairs, classes], votes)?);
    let against = s.tensor(Tensor::vector(&against));
    let votes = s.op("Gemm", &[&wins, &votes, &against]);
    let at = s.op("ArgMax <axis = 1, keepdims = 0>", &[&votes]);
    let label = labels.pick(s, &at)?;

    if prob_a.is_empty() {
        let y = if pairs == 1 {
            let complement = matches!(post, Post::Softmax | Post::SoftmaxZero);
            both(s, &scores, DType::F32, post, complement)?
        } else {
            post.rows(s, &scores, DType::F32)?
        };
        return Ok((label, y));
    }
    let [a, b] = [s.tensor(Tensor::vector(prob_a)), s.tensor(Tensor::vector(prob_b))];
    let scaled = s.op("Mul", &[&scores, &a]);
    let shifted = s.op("Add", &[&scaled, &b]);
    let opposite = s.op("Neg", &[&shifted]);
    let first = s.op("Sigmoid", &[&opposite]);
    let [least, most] = [s.scalar(DType::F32, 1e-7)?, s.scalar(DType::F32, 1.0 - 1e-7)?];
    let first = s.op("Clip", &[&first, &least, &most]);
    let y = s.op(&format!("{INTERNAL}.Couple <classes = {classes}>"), &[&first]);
    Ok((label, post.rows(s, &y, DType::F32)?))
}
