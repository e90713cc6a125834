//! Operators of quantized bytes that passes make, lowered to loops.

use super::{Operand, all, noise};
use edgec::ir::{DType, Tensor};
use edgec::ops::binary_i8::{BinaryI8, Function};
use edgec::ops::byte_table::ByteTable;
use edgec::ops::requant::Addend;
use edgec::ops::softmax_i8::SoftmaxI8;

#[test]
fn tables() {
    let table = Tensor::from_fn([256], |i| (i * 7 % 256) as u8);
    for dtype in [DType::U8, DType::I8] {
        let x = noise(dtype, &[2, 3, 5], 1);
        all(&ByteTable.into(), &[Operand::Data(x), Operand::Known(table.clone())], 1);
    }
}

#[test]
fn two_operands() {
    let factors = Addend::new(0.731, 1.27, 0, [0, 0]).unwrap();
    let functions = [
        Function::Sum { factors, minus: false },
        Function::Sum { factors, minus: true },
        Function::Product { factor: 0.0137 },
        Function::Max { factors: [0.7, 1.3] },
        Function::Min { factors: [0.7, 1.3] },
    ];
    for function in functions {
        for (bounds, zero, to) in [([-128, 127], 0, DType::I8), ([-20, 90], 100, DType::U8)] {
            let op = BinaryI8 { function: function.clone(), zeros: [120, -3], bounds, zero, to };
            for shape in [&[2, 3, 5, 4][..], &[3, 1, 1], &[1]] {
                let operands = [noise(DType::U8, &[2, 3, 5, 4], 1), noise(DType::I8, shape, 2)];
                all(&op.clone().into(), &operands.map(Operand::Data), 1);
            }
        }
    }
}

#[test]
fn softmaxes_by_table() {
    for (axes, to, zero) in [(vec![1], DType::U8, 0), (vec![2], DType::I8, -128), (vec![1, 2], DType::U8, 0)]
    {
        let op = SoftmaxI8 { axes, x_scale: 0.07, y_scale: 1.0 / 256.0, zero, to };
        for dtype in [DType::U8, DType::I8] {
            all(&op.clone().into(), &[Operand::Data(noise(dtype, &[2, 5, 7], 3))], 1);
        }
    }
}
