//! Tests of reports in a browser: what a page displays, finds and executes, and that it requests nothing. `.ci/report` runs
//! them, since they need Chromium.

mod colours;
mod devtools;
mod pages;

use devtools::Browser;
use pages::{Page, hostile, long, small};
use serde_json::{Value, json};

/// Asserts that the page did nothing but display itself.
fn assert_quiet(browser: &Browser) {
    let is_trouble = |event: &&Value| {
        let method = event["method"].as_str().unwrap_or_default();
        let is_other = method == "Network.requestWillBeSent" && event["params"]["type"] != "Document";
        is_other || ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"].contains(&method)
    };
    let trouble: Vec<_> = browser.events().iter().filter(is_trouble).collect();
    assert!(trouble.is_empty(), "{trouble:#?}");
    let requests = browser.events().iter().filter(|event| event["method"] == "Network.requestWillBeSent").count();
    assert_eq!(requests, 1, "only the page itself is requested");
}

#[test]
fn a_page_displays_lanes_lines_and_consoles() {
    let page = Page::of(&small().report());
    let mut browser = Browser::open(&page);
    let texts = |selector: &str| format!("[...document.querySelectorAll('{selector}')].map((e) => e.textContent)");
    assert_eq!(browser.value(&texts(".lane-name")), json!(["caller", "monitor", "tty", "process"]));
    assert_eq!(browser.value(&texts("h2")), json!(["panic of the guest"]));
    let rows = browser.value(&texts(".screen .row"));
    assert_eq!(rows[1], "   2.000000[    0.5] Kernel panic - not syncing: no init");
    let style = "getComputedStyle(document.querySelector('.screen .row .f1')).color";
    assert_eq!(browser.value(style), "rgb(255, 123, 114)");
    assert_eq!(browser.value("getComputedStyle(document.querySelector('.screen span[style]')).color"), "rgb(1, 2, 3)");
    let swapped =
        "(({ color, backgroundColor }) => [color, backgroundColor])(getComputedStyle(document.querySelector('.r.f1')))";
    assert_eq!(browser.value(swapped), json!(["rgb(17, 21, 26)", "rgb(255, 123, 114)"]), "red in reverse video");
    let marks =
        browser.value("[...document.querySelectorAll('.track button')].map((e) => e.getAttribute('aria-label'))");
    let marks: Vec<_> = marks.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(marks.contains(&"1.000000 s: query-block, 2.00 s, timed out"), "{marks:?}");
    assert!(marks.contains(&"3.000000 s: GUEST_PANICKED"), "{marks:?}");
    assert_quiet(&browser);
}

#[test]
fn a_mark_leads_to_its_line_and_to_the_console() {
    let page = Page::of(&small().report());
    let mut browser = Browser::open(&page);
    browser.value("document.querySelector('.track button.event').click()");
    let chosen = "[...document.querySelectorAll('.row[aria-selected=true]')].map((e) => e.textContent)";
    let rows = browser.value(chosen);
    assert!(rows[0].as_str().is_some_and(|row| row.contains("inverse")), "the last line of that time: {rows}");
    assert!(rows[1].as_str().is_some_and(|row| row.contains("GUEST_PANICKED")), "{rows}");
    assert!(browser.value("document.querySelector('.detail').textContent").to_string().contains("GUEST_PANICKED"));
    // The keys move the choice, and the other panel follows.
    browser.value("document.querySelector('.screen').dispatchEvent(new KeyboardEvent('keydown', { key: 'Home' }))");
    let rows = browser.value(chosen);
    assert!(rows[0].as_str().is_some_and(|row| row.contains("Linux version")), "{rows}");
    assert!(rows[1].as_str().is_some_and(|row| row.contains("query-block")), "{rows}");
    browser.value("document.querySelector('.track button.milestone').focus()");
    let key =
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }))";
    browser.value(key);
    let focused = browser.value("document.activeElement.getAttribute('aria-label')");
    assert_eq!(focused, "1.000000 s: query-block, 2.00 s, timed out");
    assert_quiet(&browser);
}

#[test]
fn a_search_finds_marks_and_filters() {
    let page = Page::of(&small().report());
    let mut browser = Browser::open(&page);
    let enter = |panel: &str, text: &str| {
        let input = format!("document.querySelector('.{panel} input[type=search]')");
        format!("{input}.value = '{text}'; {input}.dispatchEvent(new Event('input'))")
    };
    browser.value(&enter("consoles", "PANIC"));
    assert_eq!(browser.value("document.querySelector('.consoles output').textContent"), "1 of 1");
    assert_eq!(browser.value("document.querySelector('.screen mark').textContent"), "panic");
    browser.value(&enter("lines-panel", "query-block"));
    let rows = browser.value("document.querySelectorAll('.lines-panel .row').length");
    assert_eq!(rows, 1, "only the command has this text");
    browser.value(&enter("lines-panel", ""));
    browser.value("document.querySelector('.lines-panel input[type=checkbox]').click()");
    let lanes =
        browser.value("[...new Set([...document.querySelectorAll('.lines-panel .who')].map((e) => e.textContent))]");
    assert_eq!(lanes, json!(["process", "monitor"]));
    assert_quiet(&browser);
}

/// The work is bounded by what is in view: the page has as many elements as one of few lines.
#[test]
fn a_hundred_thousand_lines_need_few_elements() {
    let page = Page::of(&long(100_000).report());
    let mut browser = Browser::open(&page);
    let elements = "document.querySelectorAll('*').length";
    let few = |browser: &mut Browser| {
        let count = browser.value(elements).as_u64().expect("a number");
        assert!((100..2_000).contains(&count), "{count} elements");
    };
    few(&mut browser);
    let input = "document.querySelector('.consoles input')";
    browser.value(&format!("{input}.value = 'line 77777'; {input}.dispatchEvent(new Event('input'))"));
    assert_eq!(browser.value("document.querySelector('.consoles output').textContent"), "1 of 1");
    let chosen = browser.value("document.querySelector('.screen .row[aria-selected=true]').textContent");
    assert!(chosen.as_str().is_some_and(|row| row.ends_with("line 77777")), "{chosen}");
    few(&mut browser);
    assert_eq!(browser.value("document.querySelector('.lines-panel output').textContent"), "5 of 100005", "no console");
    browser.value("document.querySelectorAll('.lines-panel input[type=checkbox]')[2].click()");
    let filter = "document.querySelector('.lines-panel input[type=search]')";
    browser.value(&format!("{filter}.value = '9'; {filter}.dispatchEvent(new Event('input'))"));
    // Each number with a 9, and the version of QEMU.
    assert_eq!(browser.value("document.querySelector('.lines-panel output').textContent"), "40952 of 100005");
    few(&mut browser);
    assert_quiet(&browser);
}

#[test]
fn hostile_text_is_displayed_and_not_executed() {
    let page = Page::of(&hostile().report().titled(pages::HOSTILE));
    let mut browser = Browser::open(&page);
    assert_eq!(browser.value("typeof window.ran"), "undefined");
    assert_eq!(browser.value("document.querySelectorAll('img, iframe, a, svg, b').length"), 0);
    assert_eq!(browser.value("document.querySelectorAll('script').length"), 2);
    let row = browser.value("document.querySelector('.screen .row').textContent");
    assert!(row.as_str().is_some_and(|row| row.contains("</script><script>window.ran=1</script>")), "{row}");
    assert_quiet(&browser);
    // The policy forbids what the page does not do itself.
    browser.value(
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran=1' }))",
    );
    browser.value("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/x.png' }))");
    assert_eq!(browser.value("typeof window.ran"), "undefined");
    let violations = browser.events().iter().filter(|event| event["method"] == "Log.entryAdded").count();
    assert_eq!(violations, 2, "{:#?}", browser.events());
}

#[test]
fn both_themes_have_their_colours_and_enough_contrast() {
    for (scheme, page_colour, text_colour) in
        [("light", "rgb(246, 247, 249)", "rgb(27, 33, 43)"), ("dark", "rgb(15, 18, 22)", "rgb(228, 232, 238)")]
    {
        let page = Page::of(&small().report().and(small().report()));
        let mut browser = Browser::open_in(&page, scheme);
        let colours = |browser: &mut Browser| {
            let style = "(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.documentElement))";
            browser.value(style)
        };
        assert_eq!(colours(&mut browser), json!([page_colour, text_colour]), "{scheme}");
        colours::assert_contrast(&mut browser, scheme);
        browser.value("document.querySelector('.theme').click()");
        assert_ne!(colours(&mut browser), json!([page_colour, text_colour]), "the switch changes {scheme}");
        colours::assert_contrast(&mut browser, &format!("switched from {scheme}"));
        assert_quiet(&browser);
    }
}

#[test]
fn several_records_have_tabs() {
    let page = Page::of(&small().report().titled("first").and(long(10).report().titled("second")));
    let mut browser = Browser::open(&page);
    let shown = "[...document.querySelectorAll('section.record')].map((e) => e.hidden)";
    assert_eq!(browser.value(shown), json!([false, true]));
    browser.value("document.querySelectorAll('.runs button')[1].click()");
    assert_eq!(browser.value(shown), json!([true, false]));
    assert_eq!(browser.value("document.querySelectorAll('section.record:not([hidden]) .axis').length"), 1);
    assert_quiet(&browser);
}

#[test]
fn without_javascript_the_texts_are_readable() {
    let page = Page::of(&small().report());
    let mut browser = Browser::open_without_script(&page);
    let text = browser.value("document.body.innerText");
    let text = text.as_str().expect("a text");
    for part in ["Without JavaScript", "panic of the guest", "Command line", "Console tty", "no init", "= launch"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_printed_page_has_the_texts() {
    let page = Page::of(&small().report());
    let mut browser = Browser::open(&page);
    browser.display_as_printed();
    let text = browser.value("document.body.innerText");
    let text = text.as_str().expect("a text");
    for part in ["panic of the guest", "Command line", "Console tty", "no init", "= launch"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(browser.value("document.querySelector('.axis').checkVisibility()"), false);
}

/// A phone needs no scrolling to the side, except in the panels.
#[test]
fn a_narrow_page_fits() {
    let page = Page::of(&small().report());
    let mut browser = Browser::open(&page);
    browser.resize(390, 844);
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 390);
}
