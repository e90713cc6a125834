//! Tokens to text: one item at a time, joined by blank lines, with literals for people.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use std::str::FromStr;

use super::EmitError;

/// One item (or several that belong together) as text, without a final newline.
pub(super) fn item(tokens: TokenStream) -> Result<String, EmitError> {
    let shown = || tokens.to_string().chars().take(400).collect::<String>();
    let file: syn::File = syn::parse2(tokens.clone())
        .map_err(|e| EmitError::Internal(format!("emitted tokens do not parse ({e}): {}", shown())))?;
    Ok(prettyplease::unparse(&file).trim_end().to_owned())
}

/// Items with a blank line between them, and a final newline.
pub(super) fn join(items: &[String]) -> String {
    let mut text = items.join("\n\n");
    text.push('\n');
    text
}

/// An integer literal without suffix, digits grouped from five on: `2_654_208`.
pub(super) fn int(n: u128) -> Literal {
    // Digits and underscores always parse; the other arm is the same number ungrouped.
    Literal::from_str(&group(n)).unwrap_or_else(|_| Literal::u128_unsuffixed(n))
}

/// [`int`] for a range that is counted: with a suffix where the type that is taken otherwise is too small.
pub(super) fn count(n: u64) -> Literal {
    match i32::try_from(n) {
        Ok(_) => int(n.into()),
        Err(_) => Literal::from_str(&format!("{}_u64", group(n.into())))
            .unwrap_or_else(|_| Literal::u64_suffixed(n)),
    }
}

/// [`int`] for sizes.
pub(super) fn size(n: usize) -> Literal {
    int(n as u128)
}

/// A signed integer.
pub(super) fn signed(n: i128) -> TokenStream {
    let digits = int(n.unsigned_abs());
    if n < 0 { quote!(-#digits) } else { quote!(#digits) }
}

/// Digits grouped by three from five digits on.
pub(super) fn group(n: u128) -> String {
    let digits = n.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// The shortest literal that reads back as this number.
pub(super) fn float32(x: f32) -> TokenStream {
    if x.is_nan() {
        quote!(f32::NAN)
    } else if x.is_infinite() {
        if x > 0.0 { quote!(f32::INFINITY) } else { quote!(f32::NEG_INFINITY) }
    } else {
        decimal(x.is_sign_negative(), &format!("{:?}", x.abs()), f64::from(x.abs()))
    }
}

/// [`float32`] for doubles.
pub(super) fn float64(x: f64) -> TokenStream {
    if x.is_nan() {
        quote!(f64::NAN)
    } else if x.is_infinite() {
        if x > 0.0 { quote!(f64::INFINITY) } else { quote!(f64::NEG_INFINITY) }
    } else {
        decimal(x.is_sign_negative(), &format!("{:?}", x.abs()), x.abs())
    }
}

fn decimal(negative: bool, text: &str, value: f64) -> TokenStream {
    let literal = Literal::from_str(&group_decimal(text)).unwrap_or_else(|_| Literal::f64_unsuffixed(value));
    if negative { quote!(-#literal) } else { quote!(#literal) }
}

/// Groups digits in front of and behind the point as clippy reads them best.
fn group_decimal(text: &str) -> String {
    let (mantissa, exponent) = match text.find('e') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let Some((whole, fraction)) = mantissa.split_once('.') else { return text.to_owned() };
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), group);
    let mut grouped = String::new();
    for (i, digit) in fraction.chars().enumerate() {
        if i > 0 && i % 3 == 0 && fraction.len() > 4 {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    format!("{whole}.{grouped}{exponent}")
}

/// `///` lines.
pub(super) fn doc(lines: &[String]) -> TokenStream {
    let lines = lines.iter().map(|line| {
        let text = if line.is_empty() { String::new() } else { format!(" {line}") };
        quote!(#[doc = #text])
    });
    quote!(#(#lines)*)
}

/// A name out of a model, as inline code of a doc comment: no line ends, control or invisible
/// characters, no backticks, bounded length.
pub(super) fn code(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut text: String = name
        .chars()
        .take(LONGEST)
        .map(|c| match c {
            '`' => '\'',
            c if c.is_control() || is_format(c) => '\u{fffd}',
            c => c,
        })
        .collect();
    if name.chars().count() > LONGEST {
        text.push('…');
    }
    if text.trim().is_empty() {
        text = "(unnamed)".to_owned();
    }
    format!("`{text}`")
}

/// Characters that change how the text around them is shown (rustc refuses some in comments).
fn is_format(c: char) -> bool {
    matches!(c, '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!(group(1234), "1234");
        assert_eq!(group(12_345), "12_345");
        assert_eq!(group(1_234_567), "1_234_567");
        assert_eq!(signed(-12_345).to_string(), "- 12_345");
    }

    #[test]
    fn floats_read_back() {
        for x in [0.0, -0.0, 0.1, 1.0, 1e-5, 3.402_823_5e38, 1e-45, 16_777_216.0, 0.693_359_4] {
            let text = float32(x).to_string().replace([' ', '_'], "");
            assert_eq!(text.parse::<f32>().map(f32::to_bits), Ok(x.to_bits()), "{text}");
        }
        assert_eq!(float32(f32::NEG_INFINITY).to_string(), "f32 :: NEG_INFINITY");
    }

    #[test]
    fn names_cannot_leave_their_comment() {
        assert_eq!(code("a\nfn main() {}"), "`a\u{fffd}fn main() {}`");
        assert_eq!(code("x`y"), "`x'y`");
        assert_eq!(code(""), "`(unnamed)`");
        assert_eq!(code("a\u{202e}b"), "`a\u{fffd}b`");
        assert!(code(&"n".repeat(500)).chars().count() < 90);
    }

    #[test]
    fn items_are_formatted() {
        let text = item(quote!(
            #[doc = " One."]
            fn f() {
                let x = 1;
            }
        ));
        assert_eq!(text.ok().as_deref(), Some("/// One.\nfn f() {\n    let x = 1;\n}"));
        assert!(item(quote!(fn)).is_err());
    }
}
