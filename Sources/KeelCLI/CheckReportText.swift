import Foundation
import Keel
import KeelCheck

/// The lines of `keel check`, printed as the families end: widths are known before.
struct CheckColumns {
  private let columns: TextColumns

  init(_ plan: CheckPlan) {
    columns = TextColumns([
      "family": -(plan.parts.map(\.family.count).max() ?? 0),
      "variant": -max(plan.parts.flatMap(\.variants).map(\.count).max() ?? 0, 7),
      "cases": 5, "verdict": -7, "error": 9, "bound": 6, "nearest to its bound": 0,
    ])
  }

  var header: String { columns.header }

  func line(_ summary: CheckReport.VariantSummary) -> String {
    let verdict = summary.runs == 0 ? "not run" : summary.failures == 0 ? "passed" : "FAILED"
    var cells = [summary.family, summary.variant, "\(summary.runs)", verdict, "–", "–"]
    if summary.runs == 0 { cells.append("the device takes it for none of the cases") }
    if let result = summary.worst, let worst = result.worst {
      cells[4...] = [Self.eps(worst.error), Self.eps(worst.bound), "\(result.name), seed \(result.seed)"]
    }
    return columns.line(cells)
  }

  /// Three digits; the epsilon stands in the unit.
  static func eps(_ value: Double) -> String { String(format: "%.3g", value) }
}

/// A failure as it is listed: what, by how much, where, and the command that shows it again.
struct CheckFailure: Encodable {
  var family: String
  var variant: String
  var `case`: String
  var seed: UInt64
  var reason: String
  /// In epsilons of the precision, as the bound.
  var error: Figure
  var bound: Figure
  var place: String?
  var got: Figure
  var expected: Figure
  var reproduce: String

  init(_ result: CheckResult, reproduce: String) {
    family = result.family
    variant = result.variant
    `case` = result.name
    seed = result.seed
    if case .failed(let text) = result.verdict { reason = text } else { reason = "" }
    let worst = result.worst
    error = Figure(worst?.error)
    bound = Figure(worst?.bound)
    place = worst.map { "\($0.output) at \($0.place)" }
    got = Figure(worst?.got)
    expected = Figure(worst?.expected)
    self.reproduce = reproduce
    // The numbers of a result that is not finite are not in the figures.
    if let worst, worst.error > worst.bound {
      reason +=
        ": error \(CheckColumns.eps(worst.error)) eps, bound \(CheckColumns.eps(worst.bound)), at \(worst.place): "
        + "got \(worst.got), expected \(worst.expected)"
    }
  }

  /// A compiler's log may be long: its beginning says enough.
  private static let shownLines = 6

  var text: String {
    var lines = reason.split(separator: "\n").map(String.init)
    if lines.count > Self.shownLines { lines[Self.shownLines...] = ["… \(lines.count - Self.shownLines) more lines"] }
    let title = "FAILED  " + [family, variant].filter { !$0.isEmpty }.joined(separator: " ")
    return (["\(title): \(`case`), seed \(seed)"] + (lines + [reproduce]).map { "        " + $0 })
      .joined(separator: "\n")
  }
}

/// The line of `--json`.
struct CheckSummary: Encodable {
  struct Row: Encodable {
    var family: String
    var variant: String
    var runs: Int
    var failures: Int
    /// passed, failed, or notRun where the device takes it for none of the cases.
    var verdict: String
    /// Of the result nearest to its bound, in epsilons of the precision, as the bound.
    var error: Figure
    var bound: Figure
    var `case`: String?
    var seed: UInt64?
    /// Of the bits of its results, in hexadecimal.
    var digest: String

    init(_ summary: CheckReport.VariantSummary) {
      family = summary.family
      variant = summary.variant
      runs = summary.runs
      failures = summary.failures
      verdict = summary.runs == 0 ? "notRun" : summary.failures == 0 ? "passed" : "failed"
      error = Figure(summary.worst?.worst?.error)
      bound = Figure(summary.worst?.worst?.bound)
      `case` = summary.worst?.name
      seed = summary.worst?.seed
      digest = "\(summary.digest)"
    }
  }

  var device: String
  var platform: String
  var driver: String
  var seed: UInt64
  var repeats: Int
  var cases: Int
  var runs: Int
  /// Cases in double precision on a device without it.
  var skipped: Int
  var failures: [CheckFailure]
  var perVariant: [Row]
  /// Of the bits of all results, in hexadecimal.
  var digest: String
  var seconds: Double

  init(
    _ device: Device, _ report: CheckReport, _ failures: [CheckFailure], seed: UInt64, repeats: Int, seconds: Double
  ) {
    self.device = device.name
    platform = "\(device.platform.name), \(device.platform.version)"
    driver = device.driverVersion
    self.seed = seed
    self.repeats = repeats
    cases = report.cases
    runs = report.runs
    skipped = report.skipped
    self.failures = failures
    perVariant = report.variants.map(Row.init)
    digest = "\(report.digest)"
    self.seconds = seconds
  }
}
