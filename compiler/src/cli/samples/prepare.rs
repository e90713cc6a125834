//! How images and sounds become a model's input.

use crate::diag::{Code, Diagnostic};
use clap::{Args, ValueEnum};

/// Options that say how images become tensors; sounds need none.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Images as samples")]
pub struct PrepareArgs {
    /// Scale images first: WIDTHxHEIGHT, or the length of the shorter side
    #[arg(long, value_name = "SIZE")]
    pub resize: Option<String>,
    /// Cut the input's size out of the scaled image
    #[arg(long, value_enum)]
    pub crop: Option<Crop>,
    /// Order of colors (default: rgb for three channels, gray for one)
    #[arg(long, value_enum)]
    pub color: Option<Color>,
    /// What a color value of 255 is before mean and deviation
    #[arg(long, value_name = "NUMBER")]
    pub white: Option<f32>,
    /// Subtracted from each channel
    #[arg(long, value_name = "NUMBER[,…]", value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Vec<f32>,
    /// Each channel is divided by
    #[arg(long = "std", value_name = "NUMBER[,…]", value_delimiter = ',')]
    pub deviation: Vec<f32>,
    /// Order of the input's axes, where its shape leaves that open
    #[arg(long, value_enum)]
    pub image_layout: Option<ImageLayout>,
}

/// `--crop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Crop {
    /// Out of the middle
    Center,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Red, green, blue
    Rgb,
    /// Blue, green, red
    Bgr,
    /// One channel of brightness
    Gray,
}

/// `--image-layout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageLayout {
    /// Channels, rows, columns
    Nchw,
    /// Rows, columns, channels
    Nhwc,
}

/// `--resize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Width and height.
    Exactly(u32, u32),
    /// Length of the shorter side.
    Shorter(u32),
}

/// Larger images are nobody's input.
const MOST: u32 = 16_384;

fn bad(message: String) -> Diagnostic {
    Diagnostic::error(Code::BadOption, message)
}

impl PrepareArgs {
    /// `--resize`, read.
    pub fn size(&self) -> Result<Option<Size>, Diagnostic> {
        let Some(text) = &self.resize else { return Ok(None) };
        let side = |s: &str| s.trim().parse::<u32>().ok().filter(|n| (1..=MOST).contains(n));
        let size = match text.split_once('x') {
            Some((w, h)) => side(w).zip(side(h)).map(|(w, h)| Size::Exactly(w, h)),
            None => side(text).map(Size::Shorter),
        };
        let unread =
            || bad(format!("`--resize {text}`: expected WIDTHxHEIGHT or the shorter side, at most {MOST}"));
        size.map(Some).ok_or_else(unread)
    }

    /// The options as they are typed, for the record; `None` where nothing was said.
    pub fn text(&self) -> Option<String> {
        let mut words = Vec::new();
        let mut put = |name: &str, value: Option<String>| {
            words.extend(value.map(|v| format!("--{name} {v}")));
        };
        fn name<T: ValueEnum>(value: Option<T>) -> Option<String> {
            value.and_then(|v| v.to_possible_value()).map(|v| v.get_name().to_owned())
        }
        let numbers = |list: &[f32]| {
            let list: Vec<String> = list.iter().map(f32::to_string).collect();
            (!list.is_empty()).then(|| list.join(","))
        };
        put("resize", self.resize.clone());
        put("crop", name(self.crop));
        put("color", name(self.color));
        put("white", self.white.map(|v| v.to_string()));
        put("mean", numbers(&self.mean));
        put("std", numbers(&self.deviation));
        put("image-layout", name(self.image_layout));
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Means and deviations of so many channels.
    pub fn channels(&self, count: usize) -> Result<Vec<(f32, f32)>, Diagnostic> {
        let spread = |name: &str, list: &[f32], none: f32| match list {
            [] => Ok(vec![none; count]),
            [one] => Ok(vec![*one; count]),
            all if all.len() == count => Ok(all.to_vec()),
            all => Err(bad(format!("`--{name}` has {} numbers for {count} channels", all.len()))),
        };
        let (mean, deviation) = (spread("mean", &self.mean, 0.0)?, spread("std", &self.deviation, 1.0)?);
        if deviation.iter().chain(&self.white).any(|&d| d == 0.0 || !d.is_finite()) {
            return Err(bad("`--std` and `--white` must not be zero".to_owned()));
        }
        Ok(mean.into_iter().zip(deviation).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let size =
            |text: &str| PrepareArgs { resize: Some(text.to_owned()), ..PrepareArgs::default() }.size();
        assert_eq!(size("96x64").unwrap(), Some(Size::Exactly(96, 64)));
        assert_eq!(size("256").unwrap(), Some(Size::Shorter(256)));
        for wrong in ["", "0", "96x", "x96", "99999x1", "a"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_record_is_what_was_typed() {
        let args = PrepareArgs {
            resize: Some("256".to_owned()),
            crop: Some(Crop::Center),
            color: Some(Color::Bgr),
            mean: vec![0.5, 0.25, 0.125],
            deviation: vec![0.5],
            ..PrepareArgs::default()
        };
        let text = "--resize 256 --crop center --color bgr --mean 0.5,0.25,0.125 --std 0.5";
        assert_eq!(args.text().as_deref(), Some(text));
        assert_eq!(PrepareArgs::default().text(), None);
        assert_eq!(args.channels(3).unwrap()[2], (0.125, 0.5));
        assert!(args.channels(1).is_err());
    }
}
