//! Times of the week, in a zone's own time.

use crate::document::{Fields, Node, Reader, Shown, accept, suggestion};
use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

/// One entry of `[schedules]`: any of its windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    windows: Vec<Window>,
    /// As it is written.
    pub(super) written: String,
}

/// On these days, from one minute of the day up to another; past midnight if that is not later.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// Bit 0 is Monday.
    days: u8,
    from: u16,
    to: u16,
    zone: TimeZone,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const KEYS: [&str; 4] = ["days", "from", "to", "zone"];
const DAY: u16 = 24 * 60;

impl Schedule {
    /// Whether a moment, in seconds since the Unix epoch, lies in it.
    pub(super) fn contains(&self, wall: u64) -> bool {
        let seconds = i64::try_from(wall).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds)
            .is_ok_and(|moment| self.windows.iter().any(|window| window.contains(moment)))
    }

    /// Reads one window, or a list of them.
    pub(super) fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let nodes = node.members();
        if nodes.is_empty() {
            reader.problem(node.start, "a schedule needs a window");
        }
        let read: Vec<Window> = nodes
            .iter()
            .filter_map(|node| Window::read(*node, reader))
            .collect();
        if read.is_empty() || read.len() < nodes.len() {
            return None;
        }
        let written: Vec<String> = read.iter().map(Window::written).collect();
        Some(Self {
            windows: read,
            written: format!("[{}]", written.join(", ")),
        })
    }
}

impl Window {
    fn contains(&self, moment: Timestamp) -> bool {
        let local = self.zone.to_datetime(moment);
        let minute =
            u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
        let today = bit(local.weekday());
        // The bit of the day before; Sunday comes before Monday.
        let yesterday = if today == 1 { 1 << 6 } else { today >> 1 };
        if self.from < self.to {
            self.days & today != 0 && (self.from..self.to).contains(&minute)
        } else {
            (self.days & today != 0 && minute >= self.from)
                || (self.days & yesterday != 0 && minute < self.to)
        }
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let fields = node.fields(&KEYS, reader)?;
        let days = match fields.get("days") {
            Some(node) => days(node, reader)?,
            None => 0x7f,
        };
        let from = time(&fields, "from", 0, reader)?;
        let to = time(&fields, "to", DAY, reader)?;
        let zone = match fields.get("zone") {
            Some(node) => {
                let name = node.string(reader)?;
                let zone = TimeZone::get(name).map_err(|_| {
                    let known: Vec<_> = jiff::tz::db().available().collect();
                    let near = suggestion(name, known.iter().map(|zone| zone.as_str()));
                    let name = Shown(name);
                    format!("`{name}` is not a time zone like Europe/Berlin{near}")
                });
                accept(zone, node, reader)?
            }
            None => TimeZone::UTC,
        };
        Some(Self {
            days,
            from,
            to,
            zone,
        })
    }

    fn written(&self) -> String {
        let days: Vec<String> = (0..)
            .zip(DAYS)
            .filter(|(index, _)| self.days >> index & 1 == 1)
            .map(|(_, day)| format!("\"{day}\""))
            .collect();
        let clock = |minutes: u16| format!("\"{:02}:{:02}\"", minutes / 60, minutes % 60);
        format!(
            "{{ days = [{}], from = {}, to = {}, zone = \"{}\" }}",
            days.join(", "),
            clock(self.from),
            clock(self.to),
            self.zone.iana_name().unwrap_or("UTC")
        )
    }
}

/// Days and ranges of days: `"mon-fri"`, `["sat", "sun"]`.
fn days(node: Node<'_>, reader: &mut Reader<'_>) -> Option<u8> {
    let mut all = 0;
    for member in node.members() {
        let text = member.string(reader)?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let index = |day: &str| DAYS.iter().position(|known| *known == day);
        let range = index(first).zip(index(last)).ok_or_else(|| {
            format!(
                "`{}` is not a day like \"mon\" or days like \"mon-fri\"",
                Shown(text)
            )
        });
        let (first, last) = accept(range, member, reader)?;
        let mut day = first;
        loop {
            all |= 1 << day;
            if day == last {
                break;
            }
            // Ranges go on over Sunday.
            day = (day + 1) % DAYS.len();
        }
    }
    if all == 0 {
        reader.problem(node.start, "`days` lists nothing");
        return None;
    }
    Some(all)
}

fn time(fields: &Fields<'_>, key: &str, absent: u16, reader: &mut Reader<'_>) -> Option<u16> {
    let Some(node) = fields.get(key) else {
        return Some(absent);
    };
    let text = node.string(reader)?;
    let minutes = text
        .split_once(':')
        .filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)
        .and_then(|(hours, minutes)| Some((hours.parse().ok()?, minutes.parse().ok()?)))
        .filter(|(hours, minutes): &(u16, u16)| *hours <= 24 && *minutes < 60)
        .map(|(hours, minutes)| hours * 60 + minutes)
        .filter(|minutes| *minutes <= DAY)
        .ok_or_else(|| format!("`{}` is not a time like \"08:30\"", Shown(text)));
    accept(minutes, node, reader)
}

fn bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Result<Schedule, String> {
        let whole = format!("s = {text}");
        let (mut reader, tree) = Reader::parse("p", &whole);
        let root = Fields::whole(&tree);
        let read = root
            .get("s")
            .and_then(|node| Schedule::read(node, &mut reader));
        let problems = reader.into_problems();
        match (read, problems.first()) {
            (Some(schedule), None) => Ok(schedule),
            (_, Some(problem)) => Err(problem.to_string()),
            (None, None) => Err(String::new()),
        }
    }

    fn at(schedule: &Schedule, moment: &str) -> bool {
        let seconds = moment.parse::<Timestamp>().unwrap().as_second();
        schedule.contains(u64::try_from(seconds).unwrap())
    }

    #[test]
    fn windows_follow_the_zones_own_clock_through_summer_time() {
        let office = schedule(
            "{ days = \"mon-fri\", from = \"08:00\", to = \"18:00\", zone = \"Europe/Berlin\" }",
        )
        .unwrap();
        // Monday 2027-01-04, UTC+1; Monday 2027-07-05, UTC+2.
        assert!(!at(&office, "2027-01-04T06:59:59Z") && at(&office, "2027-01-04T07:00:00Z"));
        assert!(at(&office, "2027-01-04T16:59:59Z") && !at(&office, "2027-01-04T17:00:00Z"));
        assert!(at(&office, "2027-07-05T06:00:00Z") && !at(&office, "2027-07-05T05:59:59Z"));
        // Saturday.
        assert!(!at(&office, "2027-01-09T10:00:00Z"));
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_it_begins_on() {
        let night = schedule("{ days = [\"sun\"], from = \"22:00\", to = \"06:00\" }").unwrap();
        // Sunday 2027-01-03.
        assert!(at(&night, "2027-01-03T23:00:00Z") && at(&night, "2027-01-04T05:59:00Z"));
        assert!(!at(&night, "2027-01-03T05:00:00Z") && !at(&night, "2027-01-04T23:00:00Z"));
        assert!(!at(&night, "2027-01-04T06:00:00Z"));
    }

    #[test]
    fn several_windows_are_ored_and_what_is_written_reads_back() {
        let both =
            schedule("[{ days = \"sat-mon\" }, { from = \"12:00\", to = \"13:00\" }]").unwrap();
        assert!(at(&both, "2027-01-04T00:00:00Z") && at(&both, "2027-01-05T12:30:00Z"));
        assert!(!at(&both, "2027-01-05T13:00:00Z"));
        assert_eq!(schedule(&both.written).unwrap(), both);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, wanted) in [
            ("{ days = \"moon\" }", "is not a day"),
            ("{ from = \"8\" }", "is not a time"),
            ("{ to = \"25:00\" }", "is not a time"),
            ("{ zone = \"Mars/Base\" }", "is not a time zone"),
            ("{ days = [] }", "lists nothing"),
            ("[]", "needs a window"),
            ("{ day = \"mon\" }", "did you mean `days`?"),
        ] {
            assert!(schedule(text).unwrap_err().contains(wanted), "{text}");
        }
    }
}
