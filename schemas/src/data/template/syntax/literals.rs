//! Numbers and strings as templates write them.

/// How many bytes at the beginning of `text` are digits with single underscores between.
fn digits(text: &str, is_digit: impl Fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    while let Some(&byte) = bytes.get(length) {
        let between = byte == b'_' && length > 0 && bytes.get(length + 1).is_some_and(|next| is_digit(*next));
        if !is_digit(byte) && !between {
            break;
        }
        length += 1;
    }
    length
}

/// The length of a number with a fraction or an exponent, if `text` begins with one.
pub(crate) fn float_length(text: &str) -> Option<usize> {
    let decimal = |byte: u8| byte.is_ascii_digit();
    let mut length = digits(text, decimal);
    let whole = length;
    if let Some(fraction) = text.get(length..).and_then(|rest| rest.strip_prefix('.')) {
        let count = digits(fraction, decimal);
        length += if count > 0 { 1 + count } else { 0 };
    }
    if let Some(exponent) = text.get(length..).and_then(|rest| rest.strip_prefix(['e', 'E'])) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let count = digits(exponent.get(sign..).unwrap_or_default(), decimal);
        length += if count > 0 { 1 + sign + count } else { 0 };
    }
    (length > whole).then_some(length)
}

/// The length and the radix of the whole number that `text` begins with.
pub(crate) fn integer_length(text: &str) -> (usize, u32) {
    let radix = match text.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0b") => 2,
        Some("0o") => 8,
        Some("0x") => 16,
        _ => 10,
    };
    let is_digit = |byte: u8| char::from(byte).is_digit(radix);
    let prefixed = text.get(2..).map_or(0, |rest| digits(rest.strip_prefix('_').unwrap_or(rest), is_digit));
    match radix {
        10 if text.starts_with('0') => (digits(text, |byte| byte == b'0'), 10),
        10 => (digits(text, is_digit), 10),
        _ if prefixed == 0 => (1, 10),
        _ => (2 + prefixed + usize::from(text.get(2..3) == Some("_")), radix),
    }
}

/// A string without its escapes, as Python's `unicode-escape` reads them; none where one is broken.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\\' { escape(&mut rest, &mut out)? } else { out.push(c) }
    }
    Some(out)
}

fn escape(rest: &mut std::str::Chars, out: &mut String) -> Option<()> {
    let c = rest.next()?;
    let simple = match c {
        '\n' => return Some(()),
        '\\' | '\'' | '"' => c,
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'v' => '\x0b',
        '0'..='7' => {
            let text = rest.as_str();
            let more = text.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            coded(rest, more, c.to_digit(8)?, 8)?
        }
        'x' => coded(rest, 2, 0, 16)?,
        'u' => coded(rest, 4, 0, 16)?,
        'U' => coded(rest, 8, 0, 16)?,
        'N' => return None,
        _ => {
            out.push('\\');
            c
        }
    };
    out.push(simple);
    Some(())
}

/// The character whose code the next `count` digits go on with.
fn coded(rest: &mut std::str::Chars, count: usize, start: u32, radix: u32) -> Option<char> {
    let code =
        (0..count).try_fold(start, |code, _| code.checked_mul(radix)?.checked_add(rest.next()?.to_digit(radix)?))?;
    char::from_u32(code)
}
