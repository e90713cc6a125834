//! JPEG and PNG files as samples.

use super::prepare::{Color, ImageLayout, PrepareArgs, Size};
use crate::diag::{Code, Diagnostic};
use crate::ir::{DType, Tensor};
use crate::quant::Input;
use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, Limits};
use std::path::Path;

/// Bytes that decoding an image may take.
const MOST_BYTES: u64 = 512 << 20;
/// Extent of an image.
const MOST_SIDE: u32 = 32_768;

/// How images become one input's tensors.
#[derive(Debug, Clone)]
pub struct Images {
    input: Input,
    planar: bool,
    color: Color,
    width: u32,
    height: u32,
    size: Option<Size>,
    crop: bool,
    white: f32,
    channels: Vec<(f32, f32)>,
}

fn bad(message: String) -> Diagnostic {
    Diagnostic::error(Code::BadOption, message)
}

/// Whether a file is named as an image.
pub fn is_image(path: &Path) -> bool {
    let ext = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ["jpg", "jpeg", "png"].iter().any(|known| ext.eq_ignore_ascii_case(known))
}

impl Images {
    /// For an input whose last three axes are an image of one or three channels.
    pub fn new(input: &Input, args: &PrepareArgs) -> Result<Images, Diagnostic> {
        let shape = &input.shape;
        let unfit = || {
            bad(format!(
                "input `{}` is {}{shape}, no image of one or three channels",
                input.name, input.dtype
            ))
            .with_help("`--image-layout nchw|nhwc` says which axis is which; other inputs take .npy files")
        };
        let dims = shape.dims();
        let (lead, &[a, b, c]) = dims.split_last_chunk::<3>().ok_or_else(unfit)?;
        if lead.iter().any(|&d| d != 1) {
            return Err(bad(format!("input `{}` is {shape}: images need a batch of one", input.name))
                .with_help("fix it with `--dim` or `--input-shape`"));
        }
        let channels = |n: usize| n == 1 || n == 3;
        let planar = match (args.image_layout, channels(a), channels(c)) {
            (Some(ImageLayout::Nchw), true, _) | (None, true, false) => true,
            (Some(ImageLayout::Nhwc), _, true) | (None, false, true) => false,
            // Both ends may be channels: ONNX's own order.
            (None, true, true) => true,
            _ => return Err(unfit()),
        };
        let (count, height, width) = if planar { (a, b, c) } else { (c, a, b) };
        let color = args.color.unwrap_or(if count == 1 { Color::Gray } else { Color::Rgb });
        if (color == Color::Gray) != (count == 1) {
            return Err(bad(format!(
                "`--color` does not fit the {count} channels of input `{}`",
                input.name
            )));
        }
        let bytes = matches!(input.dtype, DType::U8 | DType::I8);
        if bytes && (!args.mean.is_empty() || !args.deviation.is_empty() || args.white.is_some()) {
            return Err(bad(format!(
                "input `{}` takes bytes: `--mean`, `--std` and `--white` are for floats",
                input.name
            )));
        }
        if !bytes && input.dtype != DType::F32 {
            return Err(unfit());
        }
        let side =
            |n: usize| u32::try_from(n).ok().filter(|&n| (1..=MOST_SIDE).contains(&n)).ok_or_else(unfit);
        Ok(Images {
            input: input.clone(),
            planar,
            color,
            width: side(width)?,
            height: side(height)?,
            size: args.size()?,
            crop: args.crop.is_some(),
            white: args.white.unwrap_or(1.0),
            channels: args.channels(count)?,
        })
    }

    /// The input's tensor of an image file.
    pub fn read(&self, path: &Path) -> Result<Tensor, Diagnostic> {
        let failed = |e: String| Diagnostic::error(Code::TensorData, format!("`{}`: {e}", path.display()));
        let mut reader = ImageReader::open(path)
            .and_then(ImageReader::with_guessed_format)
            .map_err(|e| Diagnostic::error(Code::Io, format!("`{}`: {e}", path.display())))?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(MOST_BYTES);
        (limits.max_image_width, limits.max_image_height) = (Some(MOST_SIDE), Some(MOST_SIDE));
        reader.limits(limits);
        let image = reader.decode().map_err(|e| failed(e.to_string()))?;
        self.tensor(&image).map_err(|e| failed(e.to_owned()))
    }

    /// Scales, crops, and orders the colors of an image.
    pub fn tensor(&self, image: &DynamicImage) -> Result<Tensor, &'static str> {
        let (w, h) = (image.width(), image.height());
        let (width, height) = match self.size {
            Some(Size::Exactly(w, h)) => (w, h),
            Some(Size::Shorter(side)) => {
                let along = |n: u32| {
                    let scaled = u64::from(n) * u64::from(side) / u64::from(w.min(h).max(1));
                    u32::try_from(scaled).unwrap_or(u32::MAX).clamp(1, MOST_SIDE)
                };
                (along(w), along(h))
            }
            None if self.crop => (w, h),
            None => (self.width, self.height),
        };
        let scaled = |image: &DynamicImage| image.resize_exact(width, height, FilterType::Triangle);
        let (count, pixels) = match self.color {
            Color::Gray => {
                let image = DynamicImage::ImageLuma8(image.to_luma8());
                (1, self.cut(scaled(&image)).map(|i| i.into_luma8().into_raw()))
            }
            Color::Rgb | Color::Bgr => {
                let image = DynamicImage::ImageRgb8(image.to_rgb8());
                (3, self.cut(scaled(&image)).map(|i| i.into_rgb8().into_raw()))
            }
        };
        let pixels = pixels?;
        let plane = self.width as usize * self.height as usize;
        let at = |i: usize| {
            let (pixel, channel) = if self.planar { (i % plane, i / plane) } else { (i / count, i % count) };
            let source = if self.color == Color::Bgr { 2 - channel } else { channel };
            (pixels.get(pixel * count + source).copied().unwrap_or(0), channel)
        };
        let shape = self.input.shape.clone();
        Ok(match self.input.dtype {
            DType::U8 => Tensor::from_fn(shape, |i| at(i).0),
            DType::I8 => Tensor::from_fn(shape, |i| (i16::from(at(i).0) - 128) as i8),
            _ => Tensor::from_fn(shape, |i| {
                let (value, channel) = at(i);
                let (mean, deviation) = self.channels.get(channel).copied().unwrap_or((0.0, 1.0));
                (f32::from(value) / 255.0 * self.white - mean) / deviation
            }),
        })
    }

    fn cut(&self, image: DynamicImage) -> Result<DynamicImage, &'static str> {
        let (w, h) = (image.width(), image.height());
        if (w, h) == (self.width, self.height) {
            return Ok(image);
        }
        match (self.crop, w.checked_sub(self.width), h.checked_sub(self.height)) {
            (true, Some(x), Some(y)) => Ok(image.crop_imm(x / 2, y / 2, self.width, self.height)),
            (true, ..) => Err("the image is smaller than the input: scale it with `--resize`"),
            (false, ..) => Err("`--resize` gives another size than the input's: add `--crop center`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::prepare::Crop;
    use super::*;
    use crate::ir::Shape;
    use image::{Rgb, RgbImage};

    fn input(dtype: DType, shape: &[usize]) -> Input {
        Input { name: "image".to_owned(), dtype, shape: Shape::from(shape) }
    }

    /// Red counts columns, green rows; blue is 200.
    fn picture(w: u32, h: u32) -> DynamicImage {
        DynamicImage::ImageRgb8(RgbImage::from_fn(w, h, |x, y| Rgb([x as u8, y as u8, 200])))
    }

    #[test]
    fn planes_and_pixels() {
        let args = PrepareArgs::default();
        let bytes = Images::new(&input(DType::U8, &[1, 2, 4, 3]), &args).unwrap();
        let t = bytes.tensor(&picture(4, 2)).unwrap();
        assert_eq!(&t.as_slice::<u8>().unwrap()[..6], [0, 0, 200, 1, 0, 200]);
        let args = PrepareArgs { color: Some(Color::Bgr), white: Some(255.0), mean: vec![1.0], ..args };
        let reals = Images::new(&input(DType::F32, &[3, 2, 4]), &args).unwrap();
        let t = reals.tensor(&picture(4, 2)).unwrap();
        let t = t.as_slice::<f32>().unwrap();
        assert_eq!((t[0], t[8 + 4], t[16 + 3]), (199.0, 0.0, 2.0), "blue, green, red planes");
    }

    #[test]
    fn the_middle_is_cut_out_of_the_scaled_image() {
        let crop = PrepareArgs { crop: Some(Crop::Center), ..PrepareArgs::default() };
        let t = Images::new(&input(DType::U8, &[2, 2, 3]), &crop).unwrap().tensor(&picture(6, 4)).unwrap();
        assert_eq!(&t.as_slice::<u8>().unwrap()[..3], [2, 1, 200]);
        let shorter = PrepareArgs { resize: Some("2".to_owned()), ..crop.clone() };
        let t =
            Images::new(&input(DType::U8, &[2, 2, 3]), &shorter).unwrap().tensor(&picture(12, 4)).unwrap();
        assert_eq!(t.as_slice::<u8>().unwrap()[2], 200);
        let images = Images::new(&input(DType::U8, &[8, 8, 3]), &crop).unwrap();
        assert!(images.tensor(&picture(6, 4)).is_err(), "smaller than the input");
        let exact = PrepareArgs { resize: Some("9x9".to_owned()), ..PrepareArgs::default() };
        assert!(Images::new(&input(DType::U8, &[8, 8, 3]), &exact).unwrap().tensor(&picture(6, 4)).is_err());
    }

    #[test]
    fn inputs_that_are_no_images_are_told() {
        let new =
            |dtype, shape: &[usize], args: &PrepareArgs| Images::new(&input(dtype, shape), args).is_err();
        let none = PrepareArgs::default();
        assert!(new(DType::F32, &[2, 3, 4, 4], &none), "a batch of two");
        assert!(new(DType::F32, &[1, 5, 4, 4], &none), "five channels");
        assert!(new(DType::I64, &[1, 3, 4, 4], &none));
        let gray = PrepareArgs { color: Some(Color::Gray), ..none.clone() };
        assert!(new(DType::F32, &[1, 3, 4, 4], &gray));
        let mean = PrepareArgs { mean: vec![0.5], ..none };
        assert!(new(DType::U8, &[1, 3, 4, 4], &mean), "bytes are not shifted");
    }

    #[test]
    fn files_are_decoded_and_broken_ones_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::new(&input(DType::U8, &[2, 4, 3]), &PrepareArgs::default()).unwrap();
        let png = dir.path().join("a.png");
        picture(4, 2).save(&png).unwrap();
        assert_eq!(images.read(&png).unwrap(), images.tensor(&picture(4, 2)).unwrap());
        let jpeg = dir.path().join("a.jpg");
        picture(4, 2).save(&jpeg).unwrap();
        assert!(images.read(&jpeg).is_ok());
        let bytes = std::fs::read(&png).unwrap();
        std::fs::write(&png, &bytes[..bytes.len() / 2]).unwrap();
        assert!(images.read(&png).is_err());
    }
}
