import Foundation

/// Where a command's words go: results to standard output, progress to a terminal, and nothing that a pipe can't read.
///
/// With `--json`, standard output holds the JSON object alone and everything else goes to standard error. A progress
/// line is drawn only where standard error is a terminal, and is gone before the next line is printed.
///
/// Unchecked: downloads report from a thread of their own; the lock guards what changes.
final class Console: @unchecked Sendable {
  private let lock = NSLock()
  private let lines: FileHandle
  private let drawsProgress: Bool
  private var hasProgress = false
  private var lastDrawn = -Double.infinity
  private var closed = false

  /// Seconds between two drawings of the progress line.
  private static let interval = 0.05

  init(json: Bool) {
    lines = json ? .standardError : .standardOutput
    drawsProgress = isatty(STDERR_FILENO) == 1 && ProcessInfo.processInfo.environment["TERM"] != "dumb"
  }

  /// Whether progress is drawn; where it is not, plain lines should say what takes long.
  var isInteractive: Bool { drawsProgress }

  /// True once nobody reads the output any more.
  var isClosed: Bool { lock.withLock { closed } }

  /// A line for people.
  func line(_ text: String = "") { write(text + "\n", to: lines) }

  /// A line for people that is no part of the result: standard error.
  func note(_ text: String) { write(text + "\n", to: .standardError) }

  /// A line of what standard output is kept for, with `--json` or an option like it.
  func result(_ text: String) { write(text + "\n", to: .standardOutput) }

  /// The object of `--json`: one line on standard output.
  func json(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    write(String(decoding: try encoder.encode(value), as: UTF8.self) + "\n", to: .standardOutput)
  }

  /// Redraws the progress line, when the last drawing is old enough. `text` is given the number of columns.
  func progress(always: Bool = false, _ text: (_ columns: Int) -> String) {
    lock.withLock {
      let now = ProcessInfo.processInfo.systemUptime
      guard drawsProgress, always || now - lastDrawn >= Self.interval else { return }
      lastDrawn = now
      hasProgress = true
      // The last column stays free: some terminals wrap when it is written.
      send("\r" + text(Self.columns() - 1).prefix(Self.columns() - 1) + "\u{1B}[K", to: .standardError)
    }
  }

  /// Takes the progress line away.
  func endProgress() { write("", to: lines) }

  private func write(_ text: String, to handle: FileHandle) {
    lock.withLock {
      if hasProgress {
        hasProgress = false
        lastDrawn = -.infinity
        send("\r\u{1B}[K", to: .standardError)
      }
      guard !text.isEmpty else { return }
      // A closed standard error is no reason to stop.
      if !send(text, to: handle), handle === FileHandle.standardOutput { closed = true }
    }
  }

  @discardableResult
  private func send(_ text: String, to handle: FileHandle) -> Bool { Self.send(text, to: handle) }

  private static func send(_ text: String, to handle: FileHandle) -> Bool {
    do {
      try handle.write(contentsOf: Data(text.utf8))
      return true
    } catch {
      return false
    }
  }

  private static func columns() -> Int {
    var size = winsize()
    guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return max(Int(size.ws_col), 20)
  }

  /// For what is said outside of any command.
  static func print(_ text: String) { _ = send(text + "\n", to: .standardOutput) }
  static func printError(_ text: String) { _ = send(text + "\n", to: .standardError) }
}
