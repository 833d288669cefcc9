//! Tables that fit a terminal.
//!
//! A column is as wide as its widest cell. Where all of them together are wider than the terminal, in this order:
//!
//! 1. columns of lists and prose are narrowed, the widest first, down to the longest word in them: lists are cut behind
//!    a word (`docker,claude,…`), prose goes on in the next line;
//! 2. the columns that matter least are left out, and what was narrowed for them gets its room back;
//! 3. only where none is left to leave out, a word itself is cut.
//!
//! A file, a pipe or another program gets every column whole.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::ui::word;

/// What is between two columns.
const GAP: usize = 2;

/// How narrow prose may become.
pub const PROSE: usize = 16;

/// What stands for the rest of a cell.
const REST: char = '…';

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    head: &'static str,
    fit: Fit,
    /// Those with the highest go first; 0 stays.
    rank: u8,
}

/// What becomes of cells that are too wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Whole,
    Cut,
    Wrap,
}

impl Column {
    /// Makes a column that stays whole.
    pub const fn new(head: &'static str) -> Self {
        Self { head, fit: Fit::Whole, rank: 0 }
    }

    /// Lets its cells be cut behind a word.
    pub const fn cut(self) -> Self {
        Self { fit: Fit::Cut, ..self }
    }

    /// Lets its cells go on in the next line.
    pub const fn wrap(self) -> Self {
        Self { fit: Fit::Wrap, ..self }
    }

    /// Lets it be left out, before those of lower ranks.
    pub const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    fn width(&self) -> usize {
        self.head.width()
    }
}

/// How a text is shown where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On its way, or not quite as it should be.
    Uneasy,
    /// Not as it should be.
    Bad,
    /// Of less interest.
    Faint,
    /// Of a hint.
    Hint,
}

impl Tone {
    /// Shows a text in it.
    ///
    /// **Source**: ECMA-48, "SGR".
    pub fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => "32",
            Self::Uneasy => "33",
            Self::Bad => "31",
            Self::Faint => "2",
            Self::Hint => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// A cell, whose text changes no terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Makes a cell with a tone.
    pub fn toned(text: &str, tone: Tone) -> Self {
        Self { text: word(text), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text.as_ref(), Tone::Plain)
    }
}

/// Where a table is shown.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// How wide it may be; none where that does not matter.
    pub width: Option<usize>,
    /// Whether there are colours.
    pub colors: bool,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column that is shown, and how wide.
#[derive(Clone, Copy)]
struct Shown {
    at: usize,
    width: usize,
}

impl Table {
    /// Makes a table of rows that have a cell for each column.
    pub fn new(columns: &[Column], rows: Vec<Vec<Cell>>) -> Self {
        Self { columns: columns.to_vec(), rows }
    }

    /// Returns its lines, the head first, without an end.
    pub fn lines(&self, room: Room) -> Vec<String> {
        let mut shown = self.shown(room.width.unwrap_or(usize::MAX));
        shown.iter_mut().for_each(|one| one.width = self.used(*one));
        let heads: Vec<Cell> = self.columns.iter().map(|column| column.head.into()).collect();
        let rows = std::iter::once(&heads).chain(&self.rows);
        rows.flat_map(|row| self.row(row, &shown, room.colors)).collect()
    }

    /// Chooses columns and their widths.
    fn shown(&self, room: usize) -> Vec<Shown> {
        let mut all: Vec<usize> = (0..self.columns.len()).collect();
        loop {
            let mut shown: Vec<_> =
                all.iter().map(|at| Shown { at: *at, width: self.natural(*at) }).collect();
            if self.squeeze(&mut shown, room, |at| self.least(at)) {
                return shown;
            }
            let rank = |at: &usize| self.columns[*at].rank;
            match all.iter().copied().filter(|at| rank(at) > 0).max_by_key(rank) {
                Some(least) => all.retain(|at| *at != least),
                None => {
                    self.squeeze(&mut shown, room, |at| self.columns[at].width());
                    return shown;
                }
            }
        }
    }

    /// Narrows the widest columns until all fit, none below its floor; returns whether they do.
    fn squeeze(&self, shown: &mut [Shown], room: usize, floor: impl Fn(usize) -> usize) -> bool {
        loop {
            let all = shown.iter().map(|one| one.width).sum::<usize>() + GAP * shown.len().saturating_sub(1);
            if all <= room {
                return true;
            }
            let widest = shown.iter_mut().filter(|one| one.width > floor(one.at));
            match widest.max_by_key(|one| one.width) {
                Some(widest) => widest.width -= 1,
                None => return false,
            }
        }
    }

    fn cells(&self, at: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| row.get(at)).map(|cell| cell.text.as_str())
    }

    fn natural(&self, at: usize) -> usize {
        self.cells(at).map(|text| text.width()).max().unwrap_or(0).max(self.columns[at].width())
    }

    /// Returns how narrow a column may become without a word that is cut.
    fn least(&self, at: usize) -> usize {
        let natural = self.natural(at);
        let longest = |text: &str| words(text).map(|word| word.trim_end().width()).max();
        let least = match self.columns[at].fit {
            Fit::Whole => natural,
            Fit::Wrap => self.cells(at).filter_map(longest).max().unwrap_or(0).max(PROSE),
            // the first word and the sign for the others
            Fit::Cut => {
                self.cells(at).filter_map(|text| Some(words(text).next()?.width() + 1)).max().unwrap_or(0)
            }
        };
        least.max(self.columns[at].width()).min(natural)
    }

    /// Returns how much of its width a column uses: what is cut or broken between words may need less.
    fn used(&self, shown: Shown) -> usize {
        let widest = |text: &str| self.fitted(text, shown).iter().map(|line| line.width()).max();
        let head = cut(self.columns[shown.at].head, shown.width).width();
        self.cells(shown.at).filter_map(widest).max().unwrap_or(0).max(head)
    }

    /// Returns the lines of a cell.
    fn fitted(&self, text: &str, shown: Shown) -> Vec<String> {
        match self.columns[shown.at].fit {
            Fit::Wrap => wrapped(text, shown.width).iter().map(|line| cut(line, shown.width)).collect(),
            Fit::Cut | Fit::Whole => vec![cut(text, shown.width)],
        }
    }

    fn row(&self, row: &[Cell], shown: &[Shown], colors: bool) -> Vec<String> {
        let cells: Vec<(Vec<String>, Tone, usize)> = shown
            .iter()
            .filter_map(|one| {
                let cell = row.get(one.at)?;
                Some((self.fitted(&cell.text, *one), cell.tone, one.width))
            })
            .collect();
        let height = cells.iter().map(|(lines, ..)| lines.len()).max().unwrap_or(0);
        let line = |at: usize| {
            let mut line = String::new();
            let mut due = 0;
            for (lines, tone, width) in &cells {
                let text = lines.get(at).map_or("", String::as_str);
                if !text.is_empty() {
                    // no blanks at the end of a line
                    line.push_str(&" ".repeat(due));
                    line.push_str(&if colors { tone.paint(text) } else { text.to_owned() });
                    due = 0;
                }
                due += width.saturating_sub(text.width()) + GAP;
            }
            line
        };
        (0..height).map(line).collect()
    }
}

/// Returns the lines of what is known of one thing: keys flush right, and values that go on below themselves.
pub fn fields(fields: &[(&str, Cell)], room: Room) -> Vec<String> {
    let keys = fields.iter().map(|(key, _)| key.width()).max().unwrap_or(0);
    // on a terminal that is too narrow for both, values are as wide as prose at least
    let width = room.width.map_or(usize::MAX, |width| width.saturating_sub(keys + GAP).max(PROSE));
    let one = |(key, cell): &(&str, Cell)| {
        let lines = wrapped(&cell.text, width);
        let paint = |line: &String| if room.colors { cell.tone.paint(line) } else { line.clone() };
        let lines: Vec<_> = lines.iter().map(paint).collect();
        let indent = format!("\n{}", " ".repeat(keys + GAP));
        format!("{:>keys$}: {}", key, lines.join(&indent))
    };
    fields.iter().map(one).collect()
}

/// Splits a text where a line may end: behind blanks and commas. A path is one word, which can be copied whole.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive([' ', ','])
}

/// Returns as much of a text as fits, up to the end of a word.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for word in words(text) {
        if kept.width() + word.width() + 1 > width {
            break;
        }
        kept.push_str(word);
    }
    if kept.is_empty() {
        for letter in text.chars() {
            if kept.width() + letter.width().unwrap_or(0) + 1 > width {
                break;
            }
            kept.push(letter);
        }
    }
    kept.push(REST);
    kept
}

/// Breaks a text between words into lines; a word that is wider than a line has one of its own.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(text) {
        let last = lines
            .last_mut()
            .filter(|line| line.is_empty() || line.width() + word.trim_end().width() <= width);
        match last {
            Some(line) => line.push_str(word),
            None => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests;
