//! Contrast of texts, as it is computed from the colours that a browser displays (WCAG 2.2, 1.4.3).

use crate::devtools::Browser;

/// All texts of a page, each with its colour and the colour behind it.
const TEXTS: &str = r"
    [...document.querySelectorAll('body *')].filter((element) => element.checkVisibility()
        && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
    ).map((element) => {
        let behind = element;
        while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)' && behind.parentElement) behind = behind.parentElement;
        return [`${element.tagName}.${element.className} ${element.textContent.slice(0, 40)}`,
            getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
    })
";

/// Asserts that every text has the contrast that level AA requires of small texts: 4.5 to 1. Colours in full are the guest's
/// choice, and are left out.
pub(crate) fn assert_contrast(browser: &mut Browser, theme: &str) {
    let texts = browser.value(TEXTS);
    let texts = texts.as_array().expect("a list");
    assert!(texts.len() > 60, "{theme}: {} texts", texts.len());
    for text in texts {
        let [name, colour, behind] = [0, 1, 2].map(|at| text[at].as_str().expect("a text"));
        let contrast = contrast(luminance(colour), luminance(behind));
        assert!(contrast >= 4.5 || colour == "rgb(1, 2, 3)", "{theme}: {contrast:.2} for {name}: {colour} on {behind}");
    }
}

fn contrast(one: f64, other: f64) -> f64 {
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// Returns the relative luminance of `rgb(…)` (WCAG 2.2, "relative luminance").
fn luminance(colour: &str) -> f64 {
    let digits = colour.trim_start_matches("rgb(").trim_end_matches(')');
    let channels =
        digits.split(", ").map(|channel| channel.parse::<f64>().unwrap_or_else(|_| panic!("{colour}")) / 255.0);
    let linear = channels
        .map(|channel| if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) });
    linear.zip([0.2126, 0.7152, 0.0722]).map(|(channel, weight)| channel * weight).sum()
}

#[test]
fn the_contrast_of_black_and_white_is_the_largest() {
    assert!((contrast(luminance("rgb(0, 0, 0)"), luminance("rgb(255, 255, 255)")) - 21.0).abs() < 1e-9);
}
