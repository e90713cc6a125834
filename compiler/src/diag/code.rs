//! The table of diagnostic codes.

use serde::{Serialize, Serializer};
use std::fmt;

/// From one row per code: the enum, its number, title and explanation.
macro_rules! codes {
    ($($variant:ident $number:literal $title:literal $explanation:literal,)*) => {
        /// A diagnostic code. Numbers are never reused: `E` for errors, `W` for warnings and notes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// `E0102` and the like.
            pub fn number(self) -> &'static str {
                match self { $(Code::$variant => $number),* }
            }

            /// One line.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),* }
            }

            /// What it means and what to do, as `edgec explain` prints it.
            pub fn explanation(self) -> &'static str {
                match self { $(Code::$variant => $explanation),* }
            }
        }
    };
}

codes! {
    NotOnnx "E0001" "the file is not an ONNX model"
        "The bytes do not decode as an ONNX `ModelProto`: the file is truncated, damaged, or of another format\n(TFLite, TorchScript, a Git LFS pointer). Export the model again, or fetch the real file.",
    Io "E0002" "a file cannot be read or written"
        "The operating system refused; its reason stands in the message. Check the path and its permissions.",
    ExternalData "E0003" "external data is missing or out of bounds"
        "Large models keep weights in files beside the model. Each must lie in the model's folder (no absolute\npaths, no `..`, no links that leave it) and be as long as the model says. Copy the data files along with the model.",
    TensorData "E0004" "a tensor's data does not fit its type and shape"
        "The number of elements or bytes differs from what shape and type ask for, or the type is one that\nedgec does not read (complex numbers). The file is damaged or the exporter is at fault.",
    Limit "E0005" "a limit was exceeded"
        "edgec bounds file sizes, tensor sizes, ranks, nesting and counts so that a damaged or hostile model\ncannot exhaust the machine. The message names the limit.",
    UnsupportedOp "E0101" "an operator is not supported"
        "No operator of this name, domain and version is implemented. `edgec ops` lists those that are.\nOften an export option avoids it (`do_constant_folding`, another opset), or a simplifier removes it.",
    UnsupportedForm "E0102" "an operator is used in a way that is not supported"
        "The operator is known, but not with these attributes, types or operands; the message says which.",
    InvalidNode "E0103" "a node breaks its operator's definition"
        "Shapes, types or attributes contradict the ONNX definition of the operator. Other runtimes refuse such a\nnode too: the model was edited or exported wrongly.",
    UnknownAttribute "E0104" "a node has an attribute that its operator does not know"
        "Ignoring an attribute could change results silently, so it is an error. Check the operator set version:\nan attribute may belong to another version of the operator.",
    NotConstant "E0105" "an operand must be known at compile time"
        "Axes, shapes, sizes and the like decide the generated code, so they must be constants. Bind the graph\ninput they come from with `--bind NAME=VALUE`, or export the model with static shapes.",
    Opset "E0106" "the model's operator set cannot be used"
        "The model imports no version, or one that is not read (1 to 28 of ONNX's own, tested from 7 on), of an operator set that its nodes use.\nConvert it with `onnx.version_converter`, or export it again.",
    GraphStructure "E0107" "the graph is malformed"
        "A value is used that nothing defines, is defined twice, or nodes form a cycle.",
    CustomOp "E0108" "a custom operator is not fully described"
        "An operator of your own needs the path of a function (`--custom-op com.acme:Squash=my_ops::squash`) that the generated\ncode can name, and types of its results: those that the model declares (`value_info`), or a rule\n(`--custom-shape com.acme:Squash=same`). The guide's page on custom operators has an example.",
    OpenDim "E0201" "a dimension is not static"
        "Generated code has fixed shapes. Give the dimension a value: `--dim NAME=VALUE`, or the whole shape:\n`--input-shape INPUT=1x3x224x224`.",
    ShapeMismatch "W0202" "declared and inferred shapes differ"
        "The file's own `value_info` contradicts what the operators compute; the computed shape is used.",
    DimDefault "W0203" "a leading dimension was taken as 1"
        "The first dimension of an input has no value; it is taken as the batch, of size 1. Say otherwise with\n`--dim NAME=VALUE`.",
    Texts "W0204" "texts or a dictionary became numbers"
        "Generated code has no texts and no dictionaries: labels are positions in a table that the crate holds, and what\n`ZipMap` makes stays a tensor with a column for each key. The message says what is given instead.",
    BadOption "E0301" "an option names something that the model does not have"
        "An input, dimension or output given on the command line does not exist, or the value does not fit.",
    NameCollision "E0302" "two names become the same identifier"
        "Inputs and outputs are named after ONNX names, cut down to Rust identifiers; two of them collide.\nRename one: `--rename 'input.1=image'`.",
    OutputFolder "E0303" "the output folder is not ours"
        "The folder exists and was not written by edgec (it has no `PROVENANCE.json`). Choose another, or remove it.",
    TooLarge "E0304" "the weights are too large for this way of emission"
        "A macro cannot carry more than 16 MB of weights. Use `edgec::Config` in a build script.",
    NotInteger "E0305" "a quantized model would not run in integers alone"
        "`--require-integer` allows QuantizeLinear and DequantizeLinear at the model's edges and no other step in float.\nQuantize the named node's operands and result, or take the flag away.",
    Stale "E0401" "the generated crate is not up to date"
        "`build --check` found other contents than it would write. Run `edgec build` and commit the result.",
    VerifyFailed "E0402" "outputs differ from the reference"
        "The generated code ran, but an output differs by more than the tolerance.",
    Environment "E0501" "a tool is missing or failed"
        "edgec starts `cargo` for verify, bench and run; it is missing, or the build failed.",
    Budget "E0601" "a budget was exceeded"
        "The model needs more memory than `--max-ram` or `--max-rom` allows.",
    NothingToQuantize "E0701" "no node can be quantized"
        "Quantization starts at products of `float` data and constant weights; the model has none, all are kept in float,\nor they are of another type (convert half precision to `float` first).",
    FewSamples "W0702" "few samples to calibrate with"
        "Ranges of activations are those of the samples; with few of them, values in use lie outside and are cut off.\nTake 100 to 500 samples that are like those in use, of every class.",
    ConstantRange "W0703" "a value did not vary, or was no number"
        "A value was the same in all samples, or NaN or infinite in some; its scale says little about use.\nCalibrate with samples that reach this part of the model.",
    Clipping "W0704" "more than 1 % of a value lie outside its range"
        "The method cut off outliers; here it cut off more than those. Take a higher `--percentile`, or `--method mse`.",
    OtherRanges "W0705" "ranges belong to another version of the model"
        "A ranges file records the hash of the model that it was made with; this model has another. After training again,\ncalibrate again.",
    StaysFloat "W0706" "a node stays in float"
        "The node has a form that is quantized in other cases; the message says why not here.",
    PoorLayer "W0707" "a layer loses much to quantization"
        "The layer's own error is large against its signal. Try `--method mse`, more or better samples, or keep the layer in\nfloat with `--keep-float`.",
    RunsInFloat "W0708" "a step of a quantized model runs in float"
        "No integer form of the step fits, or the model itself leaves it in float; the message says which. Everything else\nof the model runs in integers. `--require-integer` makes it an error.",
    Internal "E0900" "internal error"
        "edgec contradicts itself. Please report it, with the model if you can.",
}

impl Code {
    /// The code of a number such as `E0102`, in any case.
    pub fn parse(number: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|c| c.number().eq_ignore_ascii_case(number))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_parse_back() {
        for (i, &code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::parse(&code.number().to_lowercase()), Some(code));
            assert!(Code::ALL[i + 1..].iter().all(|c| c.number() != code.number()), "{code}");
        }
    }
}
