import Foundation

/// A bar for work of known size: `epoch 3/10 ━━━━━━━━━────────  45 %  0:07 left`.
enum ProgressBar {
  /// - Parameters:
  ///   - done: of `total` units; what lies outside is taken to the nearest end.
  ///   - width: columns of the whole line; the bar itself takes what the text leaves, at most 40.
  ///   - elapsed: seconds since `done` was 0.
  static func render(_ label: String, done: Int, total: Int, width: Int, elapsed: Double) -> String {
    let fraction = total > 0 ? min(max(Double(done) / Double(total), 0), 1) : 0
    let percent = String(format: "%3d %%", Int(fraction * 100))
    let left = remaining(fraction: fraction, elapsed: elapsed).map { "  \(duration($0)) left" } ?? ""
    let room = min(width - label.count - percent.count - left.count - 2, 40)
    guard room >= 4 else { return String("\(label) \(percent)\(left)".prefix(max(width, 0))) }
    let filled = Int(fraction * Double(room))
    let bar = String(repeating: "━", count: filled) + String(repeating: "─", count: room - filled)
    return "\(label) \(bar) \(percent)\(left)"
  }

  /// Seconds to go at the pace so far; nil while there is none.
  static func remaining(fraction: Double, elapsed: Double) -> Double? {
    guard fraction > 0, fraction < 1, elapsed > 0 else { return nil }
    return elapsed * (1 - fraction) / fraction
  }

  /// `0:07`, `12:30`, `3:05:00`. Rounded up: a job that runs has no `0:00` left.
  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return "–" }
    let whole = Int(seconds.rounded(.up))
    let (hours, minutes) = (whole / 3600, whole / 60 % 60)
    return hours > 0
      ? String(format: "%d:%02d:%02d", hours, minutes, whole % 60) : String(format: "%d:%02d", minutes, whole % 60)
  }
}
