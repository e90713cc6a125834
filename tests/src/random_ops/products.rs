//! Products of matrices and what is made of them.

use super::{Draw, Values};
use edgec::ir::DType::{self, Bf16, F16, F32, F64, I32, I64, U32, U64};

const TYPES: &[DType] = &[F32, F64, F16, Bf16];

pub(super) fn matmul(d: &mut Draw) {
    for &dtype in TYPES.iter().chain(&[I32, I64, U32, U64]) {
        for most in [4, 40] {
            let batch = d.shape(0..=if most == 4 { 2 } else { 1 }, 3);
            let [m, k, n] = [0, 1, 2].map(|_| d.random.range(1, most));
            let a = [super::elementwise::narrower(d, &batch), vec![m, k]].concat();
            let b = [batch, vec![k, n]].concat();
            let x = d.data(dtype, &a, Values::Unit);
            let y = d.weight(dtype, &b, Values::Unit);
            d.node("MatMul", dtype, &[&x, &y], 1);
        }
        let k = d.random.range(1, 20);
        let n = d.random.range(1, 40);
        let (x, y) = (d.data(dtype, &[k], Values::Unit), d.weight(dtype, &[k, n], Values::Unit));
        d.node("MatMul", dtype, &[&x, &y], 1);
        for _ in 0..2 {
            let [m, k, n] = [0, 1, 2].map(|_| d.random.range(1, 20));
            let (ta, tb) = (d.random.below(2), d.random.below(2));
            let x = d.data(dtype, &if ta == 1 { [k, m] } else { [m, k] }, Values::Unit);
            let y = d.weight(dtype, &if tb == 1 { [n, k] } else { [k, n] }, Values::Unit);
            let c = d.random.of(&[&[][..], &[0], &[1], &[0, 1]]);
            let c: Vec<usize> = match c {
                [] => vec![1],
                [0] => vec![n],
                [1] => vec![m, 1],
                _ => vec![m, n],
            };
            let c = d.weight(dtype, &c, Values::Unit);
            let scale = if dtype.is_float() { "alpha = 0.5, beta = 2.0, " } else { "" };
            d.node(&format!("Gemm <{scale}transA = {ta}, transB = {tb}>"), dtype, &[&x, &y, &c], 1);
        }
    }
    for dtype in [F32, F16] {
        let [m, k, n] = [0, 1, 2].map(|_| d.random.range(1, 12));
        let (x, y) = (d.data(dtype, &[2, k, m], Values::Unit), d.weight(dtype, &[n, k], Values::Unit));
        d.node("com.microsoft.FusedMatMul <transA = 1, transB = 1, alpha = 0.5>", dtype, &[&x, &y], 1);
    }
}

pub(super) fn einsum(d: &mut Draw) {
    for dtype in [F32, F64, I32] {
        for (equation, axes) in [
            ("ij,jk->ik", &["ij", "jk"][..]),
            ("bij,bjk->bik", &["bij", "bjk"]),
            ("bhid,bhjd->bhij", &["bhid", "bhjd"]),
            ("bij->bji", &["bij"]),
            ("ij->", &["ij"]),
            ("ii->i", &["ii"]),
            ("i,j->ij", &["i", "j"]),
            ("ijk,ij->ik", &["ijk", "ij"]),
            ("ij,jk,kl->il", &["ij", "jk", "kl"]),
        ] {
            let size: Vec<usize> = (0..26).map(|_| d.random.range(1, 5)).collect();
            let operands: Vec<String> = axes
                .iter()
                .map(|names| {
                    let shape: Vec<usize> = names.bytes().map(|b| size[usize::from(b - b'a')]).collect();
                    d.data(dtype, &shape, Values::Unit)
                })
                .collect();
            let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
            d.node(&format!("Einsum <equation = \"{equation}\">"), dtype, &operands, 1);
        }
    }
}

pub(super) fn attention(d: &mut Draw) {
    for dtype in [F32, F16] {
        for _ in 0..3 {
            let (batch, heads, q, k) =
                (d.random.range(1, 2), d.random.range(1, 4), d.random.range(1, 9), d.random.range(1, 9));
            let width = 4 * heads * d.random.range(1, 4);
            let x = d.data(dtype, &[batch, q, width], Values::Unit);
            let (y, z) = (
                d.data(dtype, &[batch, k, width], Values::Unit),
                d.data(dtype, &[batch, k, width], Values::Unit),
            );
            d.node(
                &format!("com.microsoft.MultiHeadAttention <num_heads = {heads}>"),
                dtype,
                &[&x, &y, &z],
                1,
            );
        }
        for _ in 0..2 {
            let (batch, heads, n) = (d.random.range(1, 2), d.random.range(1, 3), d.random.range(1, 9));
            let width = 8 * d.random.range(1, 3);
            let x = d.data(dtype, &[batch, heads, n, width], Values::Unit);
            let at = d.tensor(I64, &[batch, n], Values::Whole(0, 15));
            let at = d.either(at);
            let (cos, sin) = (
                d.weight(dtype, &[16, width / 2], Values::Unit),
                d.weight(dtype, &[16, width / 2], Values::Unit),
            );
            d.node("com.microsoft.RotaryEmbedding", dtype, &[&x, &at, &cos, &sin], 1);
        }
    }
}
