//! Style of console text: the colours and attributes that SGR sequences select.

use alloc::string::String;
use core::fmt;

/// A colour as it was selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Colour {
    #[default]
    Default,
    /// One of the sixteen whose values are those of the terminal.
    Basic(u8),
    Rgb(u8, u8, u8),
}

/// The style of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Style {
    text: Colour,
    ground: Colour,
    bold: bool,
    faint: bool,
    italic: bool,
    underlined: bool,
    struck: bool,
    hidden: bool,
    inverse: bool,
}

impl Style {
    /// Applies the parameters of an SGR sequence (ECMA-48, section 8.3.117; xterm, "Character Attributes (SGR)"). Unknown
    /// ones are ignored, and so are sequences of other terminals that only end in the same letter, such as `ESC [ > 4 m`.
    pub(super) fn select(&mut self, parameters: &[u8]) {
        if parameters.iter().any(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':')) {
            return;
        }
        let mut groups = parameters.split(|byte| *byte == b';');
        while let Some(group) = groups.next() {
            let mut parts = group.split(|byte| *byte == b':').map(number);
            match parts.next().unwrap_or_default() {
                code @ (38 | 48 | 58) => {
                    // A colour is separated by colons (ISO 8613-6) or, as xterm also reads it, by semicolons.
                    let colour = match group.contains(&b':') {
                        true => with_space(parts),
                        false => extended(&mut groups.by_ref().map(number)),
                    };
                    match (code, colour) {
                        (38, Some(colour)) => self.text = colour,
                        (48, Some(colour)) => self.ground = colour,
                        // The colour of the underline, or one that is not known.
                        _ => {}
                    }
                }
                4 => self.underlined = parts.next() != Some(0),
                code => self.select_simple(code),
            }
        }
    }

    fn select_simple(&mut self, code: u32) {
        let basic = |first: u32| u8::try_from(code - first).map(Colour::Basic).unwrap_or_default();
        match code {
            0 => *self = Self::default(),
            1 => self.bold = true,
            2 => self.faint = true,
            3 => self.italic = true,
            7 => self.inverse = true,
            8 => self.hidden = true,
            9 => self.struck = true,
            21 => self.underlined = true,
            22 => (self.bold, self.faint) = (false, false),
            23 => self.italic = false,
            24 => self.underlined = false,
            27 => self.inverse = false,
            28 => self.hidden = false,
            29 => self.struck = false,
            30..=37 => self.text = basic(30),
            39 => self.text = Colour::Default,
            40..=47 => self.ground = basic(40),
            49 => self.ground = Colour::Default,
            90..=97 => self.text = basic(90 - 8),
            100..=107 => self.ground = basic(100 - 8),
            _ => {}
        }
    }
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |number: u32, digit| number.saturating_mul(10).saturating_add(u32::from(digit & 0xf)))
}

/// Reads a colour behind 38 or 48.
fn extended(parts: &mut impl Iterator<Item = u32>) -> Option<Colour> {
    let byte = |parts: &mut dyn Iterator<Item = u32>| parts.next().and_then(|part| u8::try_from(part).ok());
    match parts.next()? {
        2 => Some(Colour::Rgb(byte(parts)?, byte(parts)?, byte(parts)?)),
        5 => byte(parts).map(indexed),
        _ => None,
    }
}

/// Reads a colour in the form with colons, in which a colour space may stand before red, green and blue.
fn with_space(parts: impl Iterator<Item = u32> + Clone) -> Option<Colour> {
    let has_space = parts.clone().next() == Some(2) && parts.clone().count() > 4;
    let skipped = parts.enumerate().filter(|(at, _)| !(has_space && *at == 1)).map(|(_, part)| part);
    extended(&mut { skipped })
}

/// Returns a colour of the 256: sixteen basic ones, a cube of 6 × 6 × 6, and 24 greys (xterm, `256colres.pl`).
fn indexed(index: u8) -> Colour {
    let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    match index {
        0..=15 => Colour::Basic(index),
        16..=231 => Colour::Rgb(level((index - 16) / 36), level((index - 16) / 6 % 6), level((index - 16) % 6)),
        232..=255 => {
            let grey = 8 + 10 * (index - 232);
            Colour::Rgb(grey, grey, grey)
        }
    }
}

/// Writes the words that the script of the page reads. The first has a letter for each attribute, and `r` when the colours
/// are swapped. `f1` or `f#rrggbb` is the selected colour of the text, `g…` that of the background.
impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes = [
            (self.bold, "b"),
            (self.faint, "d"),
            (self.italic, "i"),
            (self.underlined, "u"),
            (self.struck, "s"),
            (self.hidden, "h"),
        ];
        let mut words: String = attributes.iter().filter(|(is_on, _)| *is_on).map(|(_, word)| *word).collect();
        if self.inverse {
            words.push('r');
        }
        write!(f, "{words}")?;
        write_colour(f, 'f', self.text)?;
        write_colour(f, 'g', self.ground)
    }
}

fn write_colour(f: &mut fmt::Formatter<'_>, place: char, colour: Colour) -> fmt::Result {
    match colour {
        Colour::Default => Ok(()),
        Colour::Basic(index) => write!(f, " {place}{index}"),
        Colour::Rgb(red, green, blue) => write!(f, " {place}#{red:02x}{green:02x}{blue:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use proptest::prelude::*;

    fn after(sequences: &[&str]) -> String {
        let mut style = Style::default();
        sequences.iter().for_each(|parameters| style.select(parameters.as_bytes()));
        style.to_string()
    }

    #[test]
    fn colours_and_attributes_are_selected() {
        for (sequences, words) in [
            (&["1;31"][..], "b f1"),
            (&["1;4", "22;24"], ""),
            (&["3;9;2;8"], "dish"),
            (&["97;100"], " f15 g8"),
            (&["38;5;9;48;5;196"], " f9 g#ff0000"),
            (&["38;5;244"], " f#808080"),
            (&["38;2;1;2;255;1"], "b f#0102ff"),
            (&["38:2:1:2:3"], " f#010203"),
            (&["38:2::1:2:3"], " f#010203"),
            (&["38:5:20"], " f#0000d7"),
            (&["31;7"], "r f1"),
            (&["31;7", "27"], " f1"),
            (&["4:0"], ""),
            (&["4:3"], "u"),
            (&["31", ""], ""),
            (&["31", "39"], ""),
            (&["44", "49"], ""),
        ] {
            assert_eq!(after(sequences), words, "{sequences:?}");
        }
    }

    #[test]
    fn other_sequences_select_nothing() {
        for parameters in ["?1", ">4;2", "38;5", "38;5;256", "38;9", "58;5;1", "4294967299999", "38;2;1;2"] {
            assert_eq!(after(&[parameters]), "", "{parameters}");
        }
    }

    proptest! {
        #[test]
        fn any_parameters_are_read(parameters in "[0-9;:?]{0,40}") {
            let words = after(&[&parameters]);
            prop_assert!(words.chars().all(|one| one.is_ascii_alphanumeric() || one == ' ' || one == '#'), "{}", words);
        }
    }
}
