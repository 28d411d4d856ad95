//! A list that fits the terminal: one line a row, the least useful columns left out first.

use crate::model::text;

/// A column, before it is known whether there is room for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    rank: usize,
    least: Option<usize>,
}

impl Column {
    /// A column that is shown whole or not; the higher its `rank`, the sooner not.
    pub(crate) fn new(title: &'static str, rank: usize) -> Self {
        Self {
            title,
            rank,
            least: None,
        }
    }

    /// A column whose cells may be cut, to no less than this.
    pub(crate) fn cut_to(mut self, least: usize) -> Self {
        self.least = Some(least);
        self
    }
}

/// The columns that are shown, with their widths.
#[derive(Debug)]
pub(crate) struct Columns<const N: usize> {
    titles: [&'static str; N],
    widths: [Option<usize>; N],
}

/// Blanks between two columns.
const GAP: usize = 2;

impl<const N: usize> Columns<N> {
    /// Chooses columns and widths for a terminal of `width` columns.
    pub(crate) fn fit(
        width: usize,
        columns: [Column; N],
        rows: impl Iterator<Item = [String; N]>,
    ) -> Self {
        let mut whole = columns.map(|column| text::width(column.title));
        for row in rows {
            for (whole, cell) in whole.iter_mut().zip(&row) {
                *whole = text::width(cell).max(*whole);
            }
        }
        let mut order: Vec<usize> = (0..N).collect();
        order.sort_by_key(|column| columns[*column].rank);
        let mut widths = [None; N];
        // The first column has no gap before it.
        let mut room = width + GAP;
        for column in order {
            let least = columns[column].least.unwrap_or(usize::MAX);
            let needed = whole[column].min(least) + GAP;
            if needed <= room || columns[column].rank == 0 {
                widths[column] = Some(needed - GAP);
                room = room.saturating_sub(needed);
            }
        }
        for (width, whole) in widths.iter_mut().zip(whole) {
            if let Some(width) = width {
                let more = room.min(whole - *width);
                *width += more;
                room -= more;
            }
        }
        Self {
            titles: columns.map(|column| column.title),
            widths,
        }
    }

    /// The line of titles.
    pub(crate) fn header(&self) -> String {
        let titles = self.titles.map(str::to_owned);
        self.line(&titles, |_column, cell| cell.to_owned())
    }

    /// All of it, where nothing is painted.
    pub(crate) fn page(&self, rows: &[[String; N]]) -> String {
        let lines = rows
            .iter()
            .map(|row| self.line(row, |_, cell| cell.to_owned()));
        lines.fold(self.header(), |page, line| page + &line)
    }

    /// A row as a line with its line feed; `paint` colours the cell of a column.
    pub(crate) fn line(&self, row: &[String; N], paint: impl Fn(usize, &str) -> String) -> String {
        let mut line = String::new();
        // Blanks are put before the next cell only, so that none ends the line.
        let mut blanks = 0;
        for (column, (cell, width)) in row.iter().zip(self.widths).enumerate() {
            let Some(width) = width else { continue };
            let cell = text::fit(cell, width);
            let cell = cell.trim_end();
            if !cell.is_empty() {
                line.push_str(&" ".repeat(blanks));
                line.push_str(&paint(column, cell));
                blanks = 0;
            }
            blanks += width - text::width(cell) + GAP;
        }
        line.push('\n');
        line
    }
}
