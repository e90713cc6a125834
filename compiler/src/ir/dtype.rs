//! Element types of values.

use std::fmt;

macro_rules! dtypes {
    ($($variant:ident $short:literal $onnx:literal $size:literal,)*) => {
        /// An ONNX tensor element type.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // each is the ONNX type of that name
        pub enum DType { $($variant),* }

        impl DType {
            /// Every element type.
            pub const ALL: &'static [DType] = &[$(DType::$variant),*];

            /// Bytes of one element in the arena and in the blob; types of fewer than 8 bits take a byte each.
            pub fn size(self) -> usize {
                match self { $(DType::$variant => $size),* }
            }

            /// ONNX's name, as in `tensor(float)`.
            pub fn onnx_name(self) -> &'static str {
                match self { $(DType::$variant => $onnx),* }
            }

            /// Short name for listings and generated docs: `f32`, `i8`, `bool`.
            pub fn short_name(self) -> &'static str {
                match self { $(DType::$variant => $short),* }
            }
        }
    };
}

dtypes! {
    F32 "f32" "float" 4,
    F64 "f64" "double" 8,
    F16 "f16" "float16" 2,
    Bf16 "bf16" "bfloat16" 2,
    I8 "i8" "int8" 1,
    I16 "i16" "int16" 2,
    I32 "i32" "int32" 4,
    I64 "i64" "int64" 8,
    U8 "u8" "uint8" 1,
    U16 "u16" "uint16" 2,
    U32 "u32" "uint32" 4,
    U64 "u64" "uint64" 8,
    Bool "bool" "bool" 1,
    I4 "i4" "int4" 1,
    U4 "u4" "uint4" 1,
    I2 "i2" "int2" 1,
    U2 "u2" "uint2" 1,
    F8E4M3 "f8e4m3fn" "float8e4m3fn" 1,
    F8E4M3Uz "f8e4m3fnuz" "float8e4m3fnuz" 1,
    F8E5M2 "f8e5m2" "float8e5m2" 1,
    F8E5M2Uz "f8e5m2fnuz" "float8e5m2fnuz" 1,
    F8E8M0 "f8e8m0" "float8e8m0" 1,
    F4E2M1 "f4e2m1" "float4e2m1" 1,
    String "string" "string" 0,
}

impl DType {
    /// Floating-point of any width.
    pub fn is_float(self) -> bool {
        use DType::*;
        matches!(self, F32 | F64 | F16 | Bf16 | F8E4M3 | F8E4M3Uz | F8E5M2 | F8E5M2Uz | F8E8M0 | F4E2M1)
    }

    /// Signed or unsigned integer (not bool).
    pub fn is_int(self) -> bool {
        use DType::*;
        matches!(self, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | I4 | U4 | I2 | U2)
    }

    /// Bits of one element where ONNX packs several into a byte, the first in the lowest bits.
    pub fn packed_bits(self) -> Option<usize> {
        match self {
            DType::I4 | DType::U4 | DType::F4E2M1 => Some(4),
            DType::I2 | DType::U2 => Some(2),
            _ => None,
        }
    }

    /// Signed integer.
    pub fn is_signed_int(self) -> bool {
        use DType::*;
        matches!(self, I8 | I16 | I32 | I64 | I4 | I2)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short_name())
    }
}
