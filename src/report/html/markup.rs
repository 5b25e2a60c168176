//! Writing HTML so that nothing from outside can become markup.

use crate::time::Time;
use jiff::Timestamp;

/// A page being written.
#[derive(Default)]
pub(super) struct Page {
    written: String,
    /// The id of the heading under which it is being written.
    heading: String,
}

impl Page {
    /// Markup of our own.
    pub(super) fn raw(&mut self, markup: &str) {
        self.written.push_str(markup);
    }

    /// Anything else.
    pub(super) fn text(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                '"' => self.raw("&quot;"),
                '\'' => self.raw("&#39;"),
                // Control and direction marks could hide or reorder what is shown.
                c if c.is_control()
                    || ('\u{202a}'..='\u{202e}').contains(&c)
                    || ('\u{2066}'..='\u{2069}').contains(&c) =>
                {
                    self.written.push('\u{fffd}');
                }
                c => self.written.push(c),
            }
        }
    }

    /// A small label; its class gives the colour, never the meaning alone.
    pub(super) fn tag(&mut self, class: &str, text: &str) {
        self.raw("<span class=\"tag ");
        self.raw(class);
        self.raw("\">");
        self.text(text);
        self.raw("</span>");
    }

    /// A cell of a table.
    pub(super) fn cell(&mut self, text: &str) {
        self.raw("<td>");
        self.text(text);
        self.raw("</td>");
    }

    /// A cell with a number.
    pub(super) fn number(&mut self, value: impl ToString) {
        self.raw("<td class=\"n\">");
        self.text(&value.to_string());
        self.raw("</td>");
    }

    /// A heading that begins a part, and a sentence that says what it shows.
    pub(super) fn part(&mut self, id: &str, name: &str, about: &str) {
        id.clone_into(&mut self.heading);
        self.raw("<section aria-labelledby=\"");
        self.raw(id);
        self.raw("\"><h2 id=\"");
        self.raw(id);
        self.raw("\">");
        self.text(name);
        self.raw("</h2><p class=\"soft\">");
        self.text(about);
        self.raw("</p>");
    }

    /// Begins a table with these columns; those that start with `#` hold numbers.
    pub(super) fn table(&mut self, columns: &[&str]) {
        let heading = self.heading.clone();
        self.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-labelledby=\"");
        self.raw(&heading);
        self.raw("\"><table><thead><tr>");
        for column in columns {
            match column.strip_prefix('#') {
                Some(name) => {
                    self.raw("<th scope=\"col\" class=\"n\">");
                    self.text(name);
                }
                None => {
                    self.raw("<th scope=\"col\">");
                    self.text(column);
                }
            }
            self.raw("</th>");
        }
        self.raw("</tr></thead><tbody>");
    }

    /// Ends a table.
    pub(super) fn end_table(&mut self) {
        self.raw("</tbody></table></div>");
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.written
    }
}

/// Bytes for people.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"B");
    while value >= 1000.0 {
        let Some(larger) = units.next() else { break };
        value /= 1000.0;
        unit = larger;
    }
    if *unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A moment in UTC, to the second.
pub(super) fn moment(time: Time) -> String {
    let seconds = i64::try_from(time.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(
        |_| "?".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let mut page = Page::default();
        page.text("<script>\"&'\u{202e}\u{1b}");
        assert_eq!(
            page.finish(),
            "&lt;script&gt;&quot;&amp;&#39;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn sizes_and_moments_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_530_000), "1.5 MB");
        assert_eq!(
            moment(Time::from_secs(1_612_750_000)),
            "2021-02-08 02:06:40"
        );
    }
}
