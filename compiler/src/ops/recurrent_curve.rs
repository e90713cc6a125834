//! Activations of LSTM, GRU and RNN: their names in `activations`, and what `activation_alpha` and
//! `activation_beta` give them. Those two are consumed in order, by the functions that have such a number; where they
//! end, the defaults of the ONNX operators hold.

use super::OpError;
use crate::onnx::AttrReader;

/// A function with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Which.
    pub function: Function,
    /// First number, 0 where it has none.
    pub alpha: f32,
    /// Second number, 0 where it has none.
    pub beta: f32,
}

/// Functions that ONNX names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // ONNX's names
pub enum Function {
    Relu,
    Tanh,
    Sigmoid,
    Affine,
    LeakyRelu,
    ThresholdedRelu,
    ScaledTanh,
    HardSigmoid,
    Elu,
    Softsign,
    Softplus,
}

/// Names, with the defaults of the numbers that the function has.
const FUNCTIONS: [(&str, Function, Option<f32>, Option<f32>); 11] = [
    ("Relu", Function::Relu, None, None),
    ("Tanh", Function::Tanh, None, None),
    ("Sigmoid", Function::Sigmoid, None, None),
    ("Affine", Function::Affine, Some(1.0), Some(0.0)),
    ("LeakyRelu", Function::LeakyRelu, Some(0.01), None),
    ("ThresholdedRelu", Function::ThresholdedRelu, Some(1.0), None),
    ("ScaledTanh", Function::ScaledTanh, Some(1.0), Some(1.0)),
    ("HardSigmoid", Function::HardSigmoid, Some(0.2), Some(0.5)),
    ("Elu", Function::Elu, Some(1.0), None),
    ("Softsign", Function::Softsign, None, None),
    ("Softplus", Function::Softplus, None, None),
];

impl Curve {
    /// The function, as ONNX defines it.
    pub(super) fn eval(&self, x: f64) -> f64 {
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        match self.function {
            // NaN stays.
            Function::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Function::Tanh => libm::tanh(x),
            Function::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Function::Affine => alpha * x + beta,
            Function::LeakyRelu => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Function::ThresholdedRelu => {
                if x < alpha {
                    0.0
                } else {
                    x
                }
            }
            Function::ScaledTanh => alpha * libm::tanh(beta * x),
            Function::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
            Function::Elu => {
                if x < 0.0 {
                    alpha * libm::expm1(x)
                } else {
                    x
                }
            }
            Function::Softsign => x / (1.0 + libm::fabs(x)),
            Function::Softplus => x.max(0.0) + libm::log1p(libm::exp(-libm::fabs(x))),
        }
    }

    /// Whether it is that function, which has no numbers.
    pub(super) fn is(&self, name: &str) -> bool {
        FUNCTIONS.iter().any(|f| f.0 == name && f.1 == self.function)
    }

    /// The number by which the runtime's routine knows the function.
    pub(super) fn code(&self) -> f32 {
        FUNCTIONS.iter().position(|f| f.1 == self.function).unwrap_or(0) as f32
    }
}

/// Activations of all directions; `own` are the defaults of one.
pub(super) fn curves(
    attrs: &mut AttrReader<'_>,
    own: &[&str],
    directions: usize,
) -> Result<Vec<Curve>, OpError> {
    let count = own.len() * directions;
    let names = match attrs.texts("activations")? {
        // Some exporters write an empty list for the defaults.
        Some(names) if !names.is_empty() => names,
        _ => own.iter().copied().cycle().take(count).collect(),
    };
    if names.len() != count {
        return Err(OpError::invalid(format!(
            "attribute `activations` names {} functions, not {count}",
            names.len()
        )));
    }
    let mut alphas = attrs.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = attrs.floats("activation_beta")?.unwrap_or_default().into_iter();
    let one = |name: &str| {
        let found = FUNCTIONS.iter().find(|f| f.0.eq_ignore_ascii_case(name));
        let &(_, function, alpha, beta) =
            found.ok_or_else(|| OpError::invalid(format!("there is no activation `{name}`")))?;
        let number = |default: Option<f32>, given: &mut std::vec::IntoIter<f32>| {
            default.map_or(0.0, |d| given.next().unwrap_or(d))
        };
        let (alpha, beta) = (number(alpha, &mut alphas), number(beta, &mut betas));
        Ok(Curve { function, alpha, beta })
    };
    names.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Attr;

    #[test]
    fn numbers_go_to_the_functions_that_have_some() {
        let texts = |names: &[&str]| Attr::Strings(names.iter().map(|n| n.as_bytes().to_vec()).collect());
        let attrs = [
            ("activations".to_owned(), texts(&["Sigmoid", "HardSigmoid", "leakyrelu", "Affine"])),
            ("activation_alpha".to_owned(), Attr::Floats(vec![0.5, 0.3])),
            ("activation_beta".to_owned(), Attr::Floats(vec![0.25])),
        ];
        let all = curves(&mut AttrReader::new(&attrs), &["Tanh"; 4], 1).unwrap();
        let found: Vec<_> = all.iter().map(|c| (c.function, c.alpha, c.beta)).collect();
        assert_eq!(
            found,
            [
                (Function::Sigmoid, 0.0, 0.0),
                (Function::HardSigmoid, 0.5, 0.25),
                (Function::LeakyRelu, 0.3, 0.0),
                (Function::Affine, 1.0, 0.0)
            ]
        );
        assert!(curves(&mut AttrReader::new(&attrs), &["Tanh"; 3], 1).is_err());
        let one = |name: &str, x: f64| {
            let attrs = [("activations".to_owned(), texts(&[name]))];
            curves(&mut AttrReader::new(&attrs), &["Tanh"], 1).unwrap()[0].eval(x)
        };
        for (name, x, y) in [
            ("Relu", -2.0, 0.0),
            ("Tanh", 0.5, 0.46211715726),
            ("Sigmoid", 0.5, 0.62245933120),
            ("Affine", 0.5, 0.5),
            ("LeakyRelu", -2.0, -0.02),
            ("ThresholdedRelu", 0.5, 0.0),
            ("ScaledTanh", 0.5, 0.46211715726),
            ("HardSigmoid", 0.5, 0.6),
            ("Elu", -1.0, -0.63212055883),
            ("Softsign", -1.0, -0.5),
            ("Softplus", 0.5, 0.97407698418),
        ] {
            assert!((one(name, x) - y).abs() < 1e-7, "{name}({x}) is {}", one(name, x));
        }
    }
}
