import Foundation

/// A number of a JSON report: `null` when there is none, and when it is not finite, which JSON cannot say.
struct Figure: Encodable, Equatable {
  var value: Double?

  init(_ value: Double?) { self.value = value }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let value, value.isFinite { try container.encode(value) } else { try container.encodeNil() }
  }
}

/// Numbers as people read them.
enum Text {
  /// A loss: four decimals, or an exponent where these say nothing.
  static func loss(_ value: Double?) -> String {
    guard let value else { return "–" }
    return value != 0 && (abs(value) < 0.001 || abs(value) >= 1e5)
      ? String(format: "%.3e", value) : String(format: "%.4f", value)
  }

  /// A share of 1.
  static func accuracy(_ value: Double?) -> String { value.map { String(format: "%.4f", $0) } ?? "–" }

  static func percent(_ share: Double) -> String { String(format: "%.1f %%", share * 100) }

  /// In milliseconds or microseconds where the third decimal says too little.
  static func seconds(_ value: Double) -> String {
    if value < 0.00099995 { return String(format: "%.0f µs", value * 1e6) }
    if value < 0.0099995 { return String(format: "%.2f ms", value * 1e3) }
    return String(format: value < 1 ? "%.3f s" : value < 100 ? "%.2f s" : "%.0f s", value)
  }

  /// Of operations or bytes, in billions a second.
  static func rate(_ value: Double?) -> String { value.map { String(format: "%.1f", $0) } ?? "–" }

  static func ratio(_ value: Double?) -> String { value.map { String(format: "%.2f", $0) } ?? "–" }

  static func microseconds(_ value: Double?) -> String {
    guard let value, value.isFinite else { return "–" }
    return value < 1000 ? String(format: "%.1f", value) : String(format: "%.0f", value)
  }

  /// 60000 as 60,000.
  static func count(_ number: Int) -> String {
    var text = ""
    for (index, digit) in String(number.magnitude).reversed().enumerated() {
      if index > 0, index % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return (number < 0 ? "-" : "") + String(text.reversed())
  }

  /// [28, 28] as 28×28.
  static func extents(_ dimensions: [Int]) -> String { dimensions.map { "\($0)" }.joined(separator: "×") }
}

extension Collection<Double> {
  /// The middle value, or the mean of the two in the middle; nil of nothing.
  var median: Double? {
    guard !isEmpty else { return nil }
    let sorted = self.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}
