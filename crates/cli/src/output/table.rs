//! Tables that fit the terminal.

use comfy_table::{Cell, ContentArrangement, Table, presets};

use super::plain;

/// Blanks between two columns.
const GAP: usize = 2;
/// Nothing is cut to less than this.
const NARROWEST: usize = 8;

/// So many columns may be left out before a table is better read as blocks.
const LEFT_OUT_MAX: usize = 2;

/// A table of plain cells, as wide as the terminal at most: other cells are cut, and then the last
/// columns left out, so that those in `whole`, which people copy and type, never are. Where even
/// that does not fit, each row is a block of lines.
pub(crate) fn table(header: &[&str], whole: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = Table::new().width().map(usize::from);
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            row.iter()
                .map(|cell| plain(cell).replace('\n', " "))
                .collect()
        })
        .collect();
    within(header, whole, &rows, width)
}

fn within(header: &[&str], whole: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let says = |at: usize| rows.iter().any(|row| !row[at].is_empty());
    let mut shown: Vec<usize> = (0..header.len()).filter(|&at| says(at)).collect();
    let pick = |shown: &[usize], row: &[String]| -> Vec<String> {
        shown.iter().map(|&at| row[at].clone()).collect()
    };
    for _ in 0..=LEFT_OUT_MAX {
        let names: Vec<&str> = shown.iter().map(|&at| header[at]).collect();
        let cells: Vec<Vec<String>> = rows.iter().map(|row| pick(&shown, row)).collect();
        if let Some(widths) = widths(&names, whole, &cells, width) {
            return columns(&names, &cells, &widths);
        }
        let last = shown.iter().rposition(|&at| !whole.contains(&header[at]));
        let Some(last) = last else { break };
        shown.remove(last);
    }
    blocks(header, rows)
}

/// How wide each column may be; `None` when they do not fit.
fn widths(
    header: &[&str],
    whole: &[&str],
    rows: &[Vec<String>],
    within: Option<usize>,
) -> Option<Vec<usize>> {
    let mut widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            cells
                .map(|cell| cell.chars().count())
                .chain([name.chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let Some(within) = within else {
        return Some(widths);
    };
    let gaps = GAP * header.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > within {
        let widest = (0..header.len())
            .filter(|&at| {
                let floor = NARROWEST.max(header[at].chars().count());
                !whole.contains(&header[at]) && widths[at] > floor
            })
            .max_by_key(|&at| widths[at])?;
        widths[widest] -= 1;
    }
    Some(widths)
}

fn columns(header: &[&str], rows: &[Vec<String>], widths: &[usize]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().map(|name| Cell::new(name.to_uppercase())));
    for row in rows {
        let cells = row.iter().zip(widths);
        table.add_row(cells.map(|(cell, width)| Cell::new(cut(cell, *width))));
    }
    let padding = u16::try_from(GAP).unwrap_or_default();
    for column in table.column_iter_mut() {
        column.set_padding((0, padding));
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

fn blocks(header: &[&str], rows: &[Vec<String>]) -> String {
    let blocks: Vec<String> = rows
        .iter()
        .map(|row| {
            let lines: Vec<(&str, String)> = header
                .iter()
                .zip(row)
                .filter(|(_, cell)| !cell.is_empty())
                .map(|(name, cell)| (*name, cell.clone()))
                .collect();
            pairs(&lines)
        })
        .collect();
    blocks.join("\n\n")
}

/// `label   value` lines with the labels in one column; further lines of a value stand under it, so
/// that none of them looks like a label.
pub(crate) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows
        .iter()
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or(0);
    let under = format!("\n{:width$}  ", "");
    let lines: Vec<String> = rows
        .iter()
        .map(|(label, value)| {
            format!("{label:<width$}  {}", plain(value).replace('\n', &under))
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.join("\n")
}

/// At most `max` characters, the rest as an ellipsis.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let text = text.trim();
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_whole_at_any_width() {
        let id = "5c860922-4b65-48a0-86fe-31b91d5685e5";
        let header = ["id", "name", "schedule"];
        let rows = vec![vec![
            id.to_owned(),
            "a name that goes on and on".to_owned(),
            "cron 0 7 * * 1-5 @ Europe/Berlin".to_owned(),
        ]];
        for width in [None, Some(200), Some(80), Some(60), Some(50), Some(20)] {
            let text = within(&header, &["id"], &rows, width);
            assert!(text.contains(id), "{width:?}: {text}");
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            match width {
                Some(width) if width >= 40 => {
                    assert!(widest <= width, "{width}: {text}");
                    assert!(text.starts_with("ID "), "{text}");
                    assert_eq!(text.contains("SCHEDULE"), width >= 60, "{width}: {text}");
                }
                Some(_) => assert!(text.starts_with("id "), "a block: {text}"),
                None => assert!(text.contains("on and on"), "{text}"),
            }
        }
    }
}
