import KeelCore

/// Tables of numbers: commas between, a line a row, no header, no quotes.
public enum CSV {
  /// Reads a table, plain or gzip: `f64[rows, columns]`.
  public static func read(_ path: String) throws -> HostTensor {
    try decode(try FileBytes.read(path, format: "csv"), name: path)
  }

  /// Decodes the bytes of an unpacked file; `name` stands in the errors.
  ///
  /// - Throws: `FormatError` with the line when a row is shorter or longer than the first or a field is no finite number.
  public static func decode(_ bytes: [UInt8], name: String) throws -> HostTensor {
    var values: [Double] = []
    var columns = 0
    var rows = 0
    var lines = bytes.split(separator: 10, omittingEmptySubsequences: false)
    while let last = lines.last, last.allSatisfy({ $0 == 13 || $0 == 32 }) { lines.removeLast() }
    for (index, line) in lines.enumerated() {
      let line = line.last == 13 ? line.dropLast() : line
      let fields = line.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
      if index == 0 { columns = fields.count }
      guard fields.count == columns else {
        throw FormatError("csv", name, "line \(index + 1) has \(fields.count) fields, expected \(columns)")
      }
      for (column, field) in fields.enumerated() {
        guard let value = number(field) else {
          let text = String(decoding: field.prefix(24), as: UTF8.self)
          throw FormatError("csv", name, "line \(index + 1), field \(column + 1): expected a number, got '\(text)'")
        }
        values.append(value)
      }
      rows += 1
    }
    guard rows > 0 else { throw FormatError("csv", name, "no rows") }
    return try HostTensor([rows, columns], values)
  }

  private static func number(_ field: ArraySlice<UInt8>) -> Double? {
    // Most fields of a table of pixels are short whole numbers.
    if (1...6).contains(field.count), field.allSatisfy({ (48...57).contains($0) }) {
      return Double(field.reduce(0) { $0 * 10 + Int($1 - 48) })
    }
    let text = String(decoding: field.drop { $0 == 32 }, as: UTF8.self)
    guard let value = Double(text), value.isFinite else { return nil }
    return value
  }
}
