//! Several elementwise operators as one: what passes make of chains, so that values in between never
//! reach memory.

use super::typed::{expect_loop_type, literal_of};
use super::walk::checked_type;
use super::{Fact, Inputs, LayoutRule, Op, OpError, OpKind, Type};
use crate::ir::{DType, Tensor};
use crate::kernel::expr::Expr;
use crate::schedule::LowerCx;

/// Operands of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// An operand of the whole.
    Operand(usize),
    /// The result of an earlier step.
    Step(usize),
}

/// One of the operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The operator; one that [`scalar`] knows.
    pub op: OpKind,
    /// Its operands.
    pub args: Vec<Arg>,
}

/// Elementwise operators in order of execution; the last one's result is the result, and every step has
/// its shape. Operands broadcast to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Elementwise {
    /// The operators.
    pub steps: Vec<Step>,
}

/// An operator as a function of one element of each operand; `None` for those that are none. `dtypes` are
/// the operands' element types.
pub fn scalar(op: &OpKind, dtypes: &[DType], args: Vec<Expr>) -> Option<Expr> {
    match op {
        OpKind::Unary(op) => op.expr(dtypes, args),
        OpKind::Binary(op) => op.expr(dtypes, args),
        OpKind::Variadic(op) => op.expr(dtypes, args),
        OpKind::Where(op) => op.expr(dtypes, args),
        OpKind::Cast(op) => op.expr(dtypes, args),
        // With one scale for all; who asks has seen to that.
        OpKind::Quantize(op) => op.expr(dtypes, args),
        OpKind::Dequantize(op) => op.expr(dtypes, args),
        OpKind::Requantize(op) => op.expr(dtypes, args),
        // Bounds as attributes only, the canonical form.
        OpKind::Clip(op) if args.len() == 1 => {
            op.expr(*dtypes.first()?, args.into_iter().next()?, [None, None])
        }
        _ => None,
    }
}

impl Elementwise {
    /// The expression of the last step over the operands' expressions, and its element type.
    fn expr(&self, operands: &[(DType, Expr)]) -> Option<(DType, Expr)> {
        let mut done: Vec<(DType, Expr)> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let args = step
                .args
                .iter()
                .map(|arg| match *arg {
                    Arg::Operand(i) => operands.get(i).cloned(),
                    Arg::Step(i) => done.get(i).cloned(),
                })
                .collect::<Option<Vec<_>>>()?;
            let (dtypes, args): (Vec<DType>, Vec<Expr>) = args.into_iter().unzip();
            let dtype = self.result_type(step, &dtypes)?;
            done.push((dtype, scalar(&step.op, &dtypes, args)?));
        }
        done.pop()
    }

    /// Element type of a step's result; it does not depend on shapes.
    fn result_type(&self, step: &Step, dtypes: &[DType]) -> Option<DType> {
        let shape = crate::ir::Shape::from([1]);
        let facts: Vec<Option<Fact<'_>>> =
            dtypes.iter().map(|&dtype| Some(Fact { dtype, shape: &shape, constant: None })).collect();
        step.op.as_op().infer(&Inputs::new(&facts, 1)).ok()?.first().map(|t| t.dtype)
    }
}

impl Op for Elementwise {
    fn name(&self) -> &'static str {
        "Elementwise"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> Result<Vec<Type>, OpError> {
        let mut done: Vec<Type> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let facts = step
                .args
                .iter()
                .map(|arg| match *arg {
                    Arg::Operand(i) => inputs.required(i).map(Some),
                    Arg::Step(i) => done
                        .get(i)
                        .map(|t| Some(Fact { dtype: t.dtype, shape: &t.shape, constant: None }))
                        .ok_or_else(|| OpError::internal("a step reads a later one")),
                })
                .collect::<Result<Vec<_>, _>>()?;
            let types = step.op.as_op().infer(&Inputs::new(&facts, 1))?;
            let [result] = <[Type; 1]>::try_from(types)
                .map_err(|_| OpError::internal("an elementwise step with several results"))?;
            done.push(result);
        }
        let last = done.pop().ok_or_else(|| OpError::internal("no steps"))?;
        if done.iter().any(|t| t.shape != last.shape) {
            return Err(OpError::internal("the steps have different shapes"));
        }
        Ok(vec![checked_type(last.dtype, last.shape)?])
    }

    fn eval(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let mut done: Vec<Tensor> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let args = step
                .args
                .iter()
                .map(|arg| match *arg {
                    Arg::Operand(i) => inputs.get(i).copied().flatten(),
                    Arg::Step(i) => done.get(i),
                })
                .collect::<Vec<_>>();
            let result = step.op.as_op().eval(&args)?.into_iter().next();
            done.push(result.ok_or_else(|| OpError::internal("a step without result"))?);
        }
        done.pop().map(|y| vec![y]).ok_or_else(|| OpError::internal("no steps"))
    }

    fn folds(&self) -> bool {
        self.steps.iter().all(|step| step.op.as_op().folds())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn lower(&self, cx: &mut LowerCx<'_>) -> Result<(), OpError> {
        let mut reads = Vec::new();
        let mut operands = Vec::new();
        for i in 0..cx.node().inputs.len() {
            if let Some(tensor) = cx.constant(i).filter(|t| t.len() == 1)
                && let Some(value) = literal_of(tensor)
            {
                operands.push((tensor.dtype(), value));
                continue;
            }
            let view = cx.read(i)?;
            operands.push((view.dtype, Expr::Read(reads.len())));
            reads.push(view);
        }
        let (_, value) =
            self.expr(&operands).ok_or_else(|| OpError::internal("a step that is not elementwise"))?;
        let y = cx.write(0)?;
        expect_loop_type(y.dtype)?;
        cx.elementwise(&y, &reads, value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::binary::{Binary, BinaryKind};
    use super::super::testing::{f32s, run};
    use super::super::unary::Unary;
    use super::*;
    use crate::kernel::expr::{BinaryFn, UnaryFn};

    fn binary(f: BinaryFn, args: [Arg; 2]) -> Step {
        Step { op: Binary { function: BinaryKind::Arith(f) }.into(), args: args.to_vec() }
    }

    #[test]
    fn steps_run_in_order() {
        let relu = Step { op: Unary { function: UnaryFn::Relu }.into(), args: vec![Arg::Step(0)] };
        let op = Elementwise {
            steps: vec![
                binary(BinaryFn::Sub, [Arg::Operand(0), Arg::Operand(1)]),
                relu,
                binary(BinaryFn::Mul, [Arg::Step(1), Arg::Operand(0)]),
            ],
        };
        let (x, y) = (f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), f32s(&[2], &[2.0, 1.0]));
        let out = run(&op.into(), &[Some(&x), Some(&y)], 1).unwrap();
        assert_eq!(out[0], f32s(&[2, 2], &[0.0, 2.0, 3.0, 12.0]));
    }

    #[test]
    fn steps_of_other_shapes_are_refused() {
        let op = Elementwise {
            steps: vec![
                binary(BinaryFn::Add, [Arg::Operand(1), Arg::Operand(1)]),
                binary(BinaryFn::Add, [Arg::Operand(0), Arg::Step(0)]),
            ],
        };
        let (x, y) = (f32s(&[2, 2], &[1.0; 4]), f32s(&[2], &[2.0, 1.0]));
        assert!(run(&op.into(), &[Some(&x), Some(&y)], 1).is_err());
    }
}
