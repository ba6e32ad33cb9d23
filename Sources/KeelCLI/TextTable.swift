/// Rows of text in aligned columns, two spaces apart.
struct TextTable {
  enum Alignment { case left, right }

  var alignments: [Alignment]
  var rows: [[String]] = []

  init(_ alignments: [Alignment], rows: [[String]] = []) {
    self.alignments = alignments
    self.rows = rows
  }

  /// A line a row, without spaces at their ends. Cells beyond the known columns are left out.
  var lines: [String] {
    let widths = alignments.indices.map { column in
      rows.compactMap { column < $0.count ? $0[column].count : nil }.max() ?? 0
    }
    return rows.map { row in
      var line = ""
      for (column, cell) in row.prefix(alignments.count).enumerated() {
        let padding = String(repeating: " ", count: widths[column] - cell.count)
        line += (column == 0 ? "" : "  ") + (alignments[column] == .right ? padding + cell : cell + padding)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
  }

  var text: String { lines.joined(separator: "\n") }
}

/// Lines of a table that are printed as they come: widths are known before.
struct TextColumns {
  /// Titles with widths; words stand to the left where the width is negative, numbers to the right.
  private let columns: KeyValuePairs<String, Int>

  init(_ columns: KeyValuePairs<String, Int>) { self.columns = columns }

  var header: String { line(columns.map(\.key)) }

  func line(_ cells: [String]) -> String {
    let padded = zip(columns, cells).map { column, cell in
      let padding = String(repeating: " ", count: max(abs(column.value) - cell.count, 0))
      return column.value > 0 ? padding + cell : cell + padding
    }
    return padded.joined(separator: "  ")
  }
}
