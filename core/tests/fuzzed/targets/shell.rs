//! Readers of command lines as other programs have them: the words of bash, and the options of QEMU.

/// Returns the words of a command as bash reads it. A character must be quoted unless this reader knows that it is
/// plain.
///
/// # Errors
///
/// When bash would do more with the line than split it into words.
pub(super) fn words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut bytes = line.as_bytes();
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quoted_first = false;
    while let Some((first, rest)) = bytes.split_first() {
        bytes = rest;
        match first {
            b' ' => words.extend(word.take()),
            b'\'' => {
                quoted_first |= words.is_empty() && word.is_none();
                word.get_or_insert_default().extend(until_quote(&mut bytes)?);
            }
            b'$' if bytes.first() == Some(&b'\'') => {
                quoted_first |= words.is_empty() && word.is_none();
                bytes = &bytes[1..];
                word.get_or_insert_default().extend(until_quote_with_escapes(&mut bytes)?);
            }
            b'\\' => {
                let (escaped, rest) = bytes.split_first().ok_or("a backslash at the end")?;
                word.get_or_insert_default().push(*escaped);
                bytes = rest;
            }
            plain if plain.is_ascii_alphanumeric() || b"-_=+.,:/@%".contains(plain) => {
                word.get_or_insert_default().push(*plain);
            }
            other => return Err(format!("{other:#x} means something to a shell")),
        }
    }
    words.extend(word);
    if !quoted_first && words.first().is_some_and(|first| is_special(first)) {
        return Err("bash does not take the first word as a command".into());
    }
    Ok(words)
}

/// Returns whether an unquoted first word is an assignment or a reserved word.
pub(crate) fn is_special(word: &[u8]) -> bool {
    const RESERVED: [&str; 18] = [
        "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then",
        "until", "while", "time", "!",
    ];
    let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
    let name = name.strip_suffix(b"+").unwrap_or(name);
    let is_name = !name.is_empty()
        && !name[0].is_ascii_digit()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let assigns = is_name && word.contains(&b'=');
    assigns || RESERVED.iter().any(|reserved| reserved.as_bytes() == word)
}

fn until_quote(bytes: &mut &[u8]) -> Result<Vec<u8>, String> {
    let end = bytes.iter().position(|byte| *byte == b'\'').ok_or("a quote without an end")?;
    let inside = bytes[..end].to_vec();
    *bytes = &bytes[end + 1..];
    Ok(inside)
}

/// Reads the inside of `$'…'`. A hexadecimal escape has at most two digits (`bash(1)`, QUOTING).
fn until_quote_with_escapes(bytes: &mut &[u8]) -> Result<Vec<u8>, String> {
    let mut inside = Vec::new();
    loop {
        match *bytes {
            [b'\'', rest @ ..] => {
                *bytes = rest;
                return Ok(inside);
            }
            [b'\\', b'x', rest @ ..] => {
                let digits = rest.iter().take(2).take_while(|digit| digit.is_ascii_hexdigit()).count();
                let number = core::str::from_utf8(&rest[..digits]).map_err(|error| error.to_string())?;
                inside.push(u8::from_str_radix(number, 16).map_err(|error| error.to_string())?);
                *bytes = &rest[digits..];
            }
            [b'\\', escaped @ (b'\\' | b'\''), rest @ ..] => {
                inside.push(*escaped);
                *bytes = rest;
            }
            [b'\\', ..] => return Err("an unknown escape".into()),
            [byte, rest @ ..] => {
                inside.push(*byte);
                *bytes = rest;
            }
            [] => return Err("a quote without an end".into()),
        }
    }
}

/// Returns the members of an option as QEMU reads them (QEMU, `util/qemu-option.c`, `get_opt_name_value`): the first
/// may lack its name, a comma ends a value, and two commas in a value are one.
pub(super) fn options(option: &[u8], first_name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rest = option;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| b"=,".contains(byte)).unwrap_or(rest.len());
        if rest.get(end) == Some(&b'=') {
            let name = rest[..end].to_vec();
            rest = &rest[end + 1..];
            all.push((name, value(&mut rest)));
        } else if all.is_empty() {
            all.push((first_name.into(), value(&mut rest)));
        } else {
            let flag = rest[..end].to_vec();
            rest = rest.get(end + 1..).unwrap_or_default();
            all.push((flag, b"on".to_vec()));
        }
    }
    all
}

/// Reads a value (`get_opt_value`) and the comma after it.
fn value(rest: &mut &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    loop {
        let comma = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
        value.extend_from_slice(&rest[..comma]);
        if rest.get(comma + 1) != Some(&b',') {
            *rest = rest.get(comma + 1..).unwrap_or_default();
            return value;
        }
        value.push(b',');
        *rest = &rest[comma + 2..];
    }
}
