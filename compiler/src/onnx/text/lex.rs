//! Characters to literals and identifiers.

use super::TextError;

/// A literal value; numbers keep their spelling, which is parsed by type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Int(String),
    Float(String),
    Text(String),
}

/// Reads tokens from a text; white space and `#` comments lie between them.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

type Result<T> = std::result::Result<T, TextError>;

impl<'t> Lexer<'t> {
    pub fn new(text: &'t str) -> Self {
        Lexer { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// An error at the next token.
    pub fn error(&self, message: impl Into<String>) -> TextError {
        self.error_at(self.at, message)
    }

    /// The position of the next token, for [`Lexer::error_at`].
    pub fn mark(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    /// An error at a position.
    pub fn error_at(&self, at: usize, message: impl Into<String>) -> TextError {
        let before = self.text.get(..at).unwrap_or_default();
        TextError {
            line: before.matches('\n').count() + 1,
            column: before.len() - before.rfind('\n').map_or(0, |i| i + 1) + 1,
            message: message.into(),
        }
    }

    /// Whether nothing is left.
    pub fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest().is_empty()
    }

    /// Whether the next token begins with `token`; does not consume it.
    pub fn peek(&mut self, token: &str) -> bool {
        self.skip_space();
        self.rest().starts_with(token)
    }

    /// Consumes `token` where it comes next.
    pub fn accept(&mut self, token: &str) -> bool {
        let found = self.peek(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Consumes `token`, which must come next.
    pub fn expect(&mut self, token: &str) -> Result<()> {
        if self.accept(token) { Ok(()) } else { Err(self.error(format!("`{token}` expected"))) }
    }

    /// The next identifier, without consuming it; empty where none comes.
    pub fn peek_identifier(&mut self) -> &'t str {
        self.skip_space();
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return "";
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// An identifier.
    pub fn identifier(&mut self) -> Result<&'t str> {
        let id = self.peek_identifier();
        if id.is_empty() {
            return Err(self.error("a name is expected"));
        }
        self.at += id.len();
        Ok(id)
    }

    /// An identifier, or any name in quotes.
    pub fn name(&mut self) -> Result<String> {
        if self.peek("\"") { self.string() } else { self.identifier().map(str::to_owned) }
    }

    /// A dotted path `a.b.c`.
    pub fn path(&mut self) -> Result<String> {
        let mut path = self.identifier()?.to_owned();
        while self.accept(".") {
            path.push('.');
            path.push_str(self.identifier()?);
        }
        Ok(path)
    }

    /// Text in quotes; a backslash takes the next character as it is.
    pub fn string(&mut self) -> Result<String> {
        self.expect("\"")?;
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' => out.extend(chars.next().map(|(_, c)| c)),
                c => out.push(c),
            }
        }
        Err(self.error("the string has no end"))
    }

    /// An integer.
    pub fn int(&mut self) -> Result<i64> {
        let start = self.mark();
        match self.literal()? {
            Literal::Int(text) => text.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| self.error_at(start, "an integer is expected"))
    }

    /// A literal.
    pub fn literal(&mut self) -> Result<Literal> {
        if self.peek("\"") {
            return self.string().map(Literal::Text);
        }
        let rest = self.rest();
        let body = rest.strip_prefix('-').unwrap_or(rest);
        let sign = rest.len() - body.len();
        let word = body.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(body.len());
        let word_text = body.get(..word).unwrap_or_default();
        if ["inf", "infinity", "nan"].iter().any(|w| word_text.eq_ignore_ascii_case(w)) {
            return Ok(Literal::Float(self.take(sign + word)));
        }
        let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let mut end = digits(body);
        if end == 0 {
            return Err(self.error("a value is expected"));
        }
        let mut float = false;
        let tail = body.get(end..).unwrap_or_default();
        // `1 ...` and `1...` repeat; only a single dot belongs to the number.
        if let Some(fraction) = tail.strip_prefix('.').filter(|f| !f.starts_with('.')) {
            float = true;
            end += 1 + digits(fraction);
        }
        let tail = body.get(end..).unwrap_or_default();
        if let Some(exponent) = tail.strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let n = digits(unsigned);
            if n == 0 {
                return Err(self.error("the exponent has no digits"));
            }
            float = true;
            end += 1 + (exponent.len() - unsigned.len()) + n;
        }
        let text = self.take(sign + end);
        Ok(if float { Literal::Float(text) } else { Literal::Int(text) })
    }

    fn take(&mut self, length: usize) -> String {
        let text = self.rest().get(..length).unwrap_or_default().to_owned();
        self.at += length;
        text
    }
}
