//! Preparation of features: [Scaler](https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html),
//! [Imputer](https://onnx.ai/onnx/operators/onnx_aionnxml_Imputer.html),
//! [Normalizer](https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html),
//! [Binarizer](https://onnx.ai/onnx/operators/onnx_aionnxml_Binarizer.html),
//! [FeatureVectorizer](https://onnx.ai/onnx/operators/onnx_aionnxml_FeatureVectorizer.html) and
//! [ArrayFeatureExtractor](https://onnx.ai/onnx/operators/onnx_aionnxml_ArrayFeatureExtractor.html).

use super::composite::{Composite, Script};
use super::ml_post::{entries, rows, texts};
use super::typed::{from_floats, from_ints, is_number};
use super::{Body, Inputs, OnnxName, OpError};
use crate::ir::{DType, Data, Tensor};
use crate::onnx::{AttrReader, NodeView};

/// Operands are of any number type; results are `f32`, but for Imputer, Binarizer and ArrayFeatureExtractor, which
/// keep it.
pub struct Features;

const fn ml(op_type: &'static str) -> OnnxName {
    OnnxName { domain: "ai.onnx.ml", op_type, since: 1 }
}

impl Composite for Features {
    const NAMES: &'static [OnnxName] = &[
        ml("Scaler"),
        ml("Imputer"),
        ml("Normalizer"),
        ml("Binarizer"),
        ml("FeatureVectorizer"),
        ml("ArrayFeatureExtractor"),
    ];

    const TEXTS: bool = true;

    fn body(attrs: &mut AttrReader<'_>, node: &NodeView<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
        if node.op_type != "ArrayFeatureExtractor" && (0..inputs.len()).any(|i| inputs.texts(i).is_some()) {
            return Err(OpError::unsupported("texts as features"));
        }
        match node.op_type {
            "Scaler" => scaler(attrs, inputs),
            "Imputer" => imputer(attrs, inputs),
            "Normalizer" => normalizer(attrs, inputs),
            "Binarizer" => binarizer(attrs, inputs),
            "FeatureVectorizer" => vectorizer(attrs, inputs),
            _ => extractor(inputs),
        }
    }
}

/// `(x − offset)·scale`, with one number for all features or one for each.
fn scaler(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
    let x = inputs.required(0)?;
    let width = x.shape.dims().last().copied().unwrap_or(1);
    let mut s = Script::new(&["x"]);
    let mut y = if x.dtype == DType::F32 { "x".to_owned() } else { s.cast("x", DType::F32) };
    for (name, op) in [("offset", "Sub"), ("scale", "Mul")] {
        let list = attrs.floats(name)?.unwrap_or_default();
        match list.len() {
            0 => continue,
            n if n == 1 || n == width => {
                let by = s.tensor(Tensor::vector(&list));
                y = s.op(op, &[&y, &by]);
            }
            n => return Err(OpError::invalid(format!("`{name}` holds {n} numbers for {width} features"))),
        }
    }
    s.finish(&[&y])
}

/// Replaces one value (NaN by default) by a number for all features or one for each.
fn imputer(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
    let x = inputs.required(0)?;
    let width = x.shape.dims().last().copied().unwrap_or(1);
    let mut s = Script::new(&["x"]);
    let floats = attrs.floats("imputed_value_floats")?.unwrap_or_default();
    let ints = attrs.ints("imputed_value_int64s")?.unwrap_or_default();
    let (old_float, old_int) =
        (attrs.float_or("replaced_value_float", 0.0)?, attrs.int_or("replaced_value_int64", 0)?);
    let (count, new) = if x.dtype.is_float() {
        (floats.len(), from_floats(x.dtype, [floats.len()], floats.iter().map(|&v| v.into()))?)
    } else {
        (ints.len(), from_ints(x.dtype, [ints.len()], ints.iter().map(|&v| v.into()))?)
    };
    if count != 1 && count != width || count == 0 {
        return Err(OpError::invalid(format!("{count} imputed values for {width} features")));
    }
    let new = s.tensor(new);
    let old = if x.dtype.is_float() && old_float.is_nan() {
        s.op("IsNaN", &["x"])
    } else {
        let old = if x.dtype.is_float() {
            s.scalar(x.dtype, old_float.into())?
        } else {
            s.tensor(from_ints(x.dtype, crate::ir::Shape::scalar(), [old_int.into()])?)
        };
        s.op("Equal", &["x", &old])
    };
    let y = s.op("Where", &[&old, &new, "x"]);
    s.finish(&[&y])
}

/// Rows divided by their largest value, their sum of sizes, or their length; rows of zeros stay.
fn normalizer(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
    let x = inputs.required(0)?;
    let mut s = Script::new(&["x"]);
    let norm = attrs.text("norm")?.unwrap_or("MAX");
    let (value, ..) = rows(&mut s, &x, "x", false)?;
    let axis = s.ints(&[1]);
    let size = match norm {
        "MAX" => s.op("ReduceMax", &[&value, &axis]),
        "L1" => s.op("ReduceL1", &[&value, &axis]),
        "L2" => s.op("ReduceL2", &[&value, &axis]),
        _ => return Err(OpError::invalid(format!("attribute `norm` is `{norm}`"))),
    };
    let [zero, one] = [s.scalar(DType::F32, 0.0)?, s.scalar(DType::F32, 1.0)?];
    let empty = s.op("Equal", &[&size, &zero]);
    let size = s.op("Where", &[&empty, &one, &size]);
    let mut y = s.op("Div", &[&value, &size]);
    if x.shape.rank() == 1 {
        y = s.reshape(&y, x.shape.dims());
    }
    s.finish(&[&y])
}

/// One above the threshold, else zero. Integers are compared as `f64`.
fn binarizer(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
    let x = inputs.required(0)?;
    if !is_number(x.dtype) {
        return Err(OpError::invalid(format!("operand type {} is not allowed here", x.dtype)));
    }
    let mut s = Script::new(&["x"]);
    let dtype = if x.dtype.is_float() { x.dtype } else { DType::F64 };
    let value = if x.dtype == dtype { "x".to_owned() } else { s.cast("x", dtype) };
    let threshold = s.scalar(dtype, attrs.float_or("threshold", 0.0)?.into())?;
    let above = s.op("Greater", &[&value, &threshold]);
    let y = s.cast(&above, x.dtype);
    s.finish(&[&y])
}

/// Features of several operands side by side, cut or filled up with zeros to `inputdimensions`.
fn vectorizer(attrs: &mut AttrReader<'_>, inputs: &Inputs<'_>) -> Result<Body, OpError> {
    let widths = attrs.ints("inputdimensions")?.unwrap_or_default();
    let names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut s = Script::new(&names);
    let mut parts = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let (mut part, _, have, _) = rows(&mut s, &inputs.required(i)?, name, false)?;
        let want = match widths.get(i) {
            Some(&w) => super::walk::extent(w)?,
            None => have,
        };
        if want < have {
            let [from, to, axis] = [s.ints(&[0]), s.ints(&[want as i64]), s.ints(&[1])];
            part = s.op("Slice", &[&part, &from, &to, &axis]);
        } else if want > have {
            let pads = s.ints(&[0, 0, 0, (want - have) as i64]);
            part = s.op("Pad", &[&part, &pads]);
        }
        parts.push(part);
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let y = s.op("Concat <axis = 1>", &parts);
    s.finish(&[&y])
}

/// Columns by their positions. Of a row of texts that is known the result is the positions themselves.
fn extractor(inputs: &Inputs<'_>) -> Result<Body, OpError> {
    let (x, at) = (inputs.required(0)?, inputs.required(1)?);
    if inputs.texts(1).is_some() {
        return Err(OpError::unsupported("texts as positions"));
    }
    let mut s = Script::new(&["x", "at"]);
    let count = at.shape.elements();
    let (lead, width) = match x.shape.dims() {
        [width] => (&[1][..], *width),
        [lead @ .., width] => (lead, *width),
        [] => return Err(OpError::invalid("a scalar has no columns")),
    };
    let mut shape = lead.to_vec();
    shape.push(count);
    if x.dtype == DType::String {
        let Some(Data::String(words)) = x.constant.map(Tensor::data) else {
            return Err(OpError::unsupported("texts that are not known at compile time"));
        };
        if lead.iter().any(|&d| d != 1) || width == 0 {
            return Err(OpError::unsupported("columns of several rows of texts"));
        }
        let wide = s.cast("at", DType::I64);
        let wide = s.reshape(&wide, &shape);
        let y = entries(&mut s, &wide, texts(words.iter().cloned())?)?;
        return s.finish(&[&y]);
    }
    if !is_number(x.dtype) {
        return Err(OpError::invalid(format!("operand type {} is not allowed here", x.dtype)));
    }
    let flat = s.reshape("at", &[count]);
    let y = s.op("Gather <axis = -1>", &["x", &flat]);
    let y = if x.shape.rank() == 1 { s.reshape(&y, &shape) } else { y };
    let mut body = s.finish(&[&y])?;
    body.texts = inputs.texts(0).map(Into::into);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::super::composite::testing::{close, run};
    use super::super::testing::{f32s, i64s};

    #[test]
    fn scales_imputes_and_normalizes() {
        let x = f32s(&[2, 2], &[1., 2., 3., -4.]);
        let y = run("ai.onnx.ml.Scaler <offset = [1.0, 2.0], scale = [2.0]>", &[Some(&x)], 1).unwrap();
        close(&y[0], &[0., 0., 4., -12.]);
        let y = run("ai.onnx.ml.Normalizer <norm = \"L1\">", &[Some(&x)], 1).unwrap();
        close(&y[0], &[1. / 3., 2. / 3., 3. / 7., -4. / 7.]);
        let y = run("ai.onnx.ml.Normalizer <norm = \"L2\">", &[Some(&x)], 1).unwrap();
        close(&y[0], &[0.447_214, 0.894_427, 0.6, -0.8]);
        let gaps = f32s(&[1, 2], &[f32::NAN, 5.]);
        let op = "ai.onnx.ml.Imputer <imputed_value_floats = [7.0, 8.0], replaced_value_float: float = nan>";
        close(&run(op, &[Some(&gaps)], 1).unwrap()[0], &[7., 5.]);
        let op = "ai.onnx.ml.Imputer <imputed_value_int64s = [9], replaced_value_int64 = 3>";
        assert_eq!(run(op, &[Some(&i64s(&[1, 2], &[3, 4]))], 1).unwrap()[0], i64s(&[1, 2], &[9, 4]));
    }

    #[test]
    fn columns_are_joined_and_extracted() {
        let (a, b) = (f32s(&[2, 2], &[1., 2., 3., 4.]), i64s(&[2, 1], &[5, 6]));
        let y =
            run("ai.onnx.ml.FeatureVectorizer <inputdimensions = [1, 2]>", &[Some(&a), Some(&b)], 1).unwrap();
        close(&y[0], &[1., 5., 0., 3., 6., 0.]);
        let y = run("ai.onnx.ml.ArrayFeatureExtractor", &[Some(&a), Some(&i64s(&[1], &[1]))], 1).unwrap();
        assert_eq!(y[0], f32s(&[2, 1], &[2., 4.]));
        assert!(run("ai.onnx.ml.Scaler <offset = [1.0, 2.0, 3.0]>", &[Some(&a)], 1).is_err());
    }
}
