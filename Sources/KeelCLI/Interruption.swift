import Foundation

/// Ctrl-C and SIGTERM as a wish that long work looks at, so that it can save before it ends.
///
/// While one of these is alive the first signal only sets the wish; a second one ends the process at once.
final class Interruption {
  /// 128 + SIGINT, as shells count.
  static let exitCode: Int32 = 130
  /// The same for output that nobody reads.
  static let closedOutputExitCode: Int32 = 141

  private static let signals = [SIGINT, SIGTERM]
  private let flag = Flag()
  private let sources: [any DispatchSourceSignal]

  init() {
    sources = Self.signals.map { [flag] number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global(qos: .userInteractive))
      source.setEventHandler {
        if flag.raise() { _exit(Self.exitCode) }
      }
      source.resume()
      return source
    }
  }

  deinit {
    for source in sources { source.cancel() }
    for number in Self.signals { signal(number, SIG_DFL) }
  }

  var isRequested: Bool { flag.isRaised }

  /// Unchecked: every access takes the lock.
  private final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var raised = false

    var isRaised: Bool { lock.withLock { raised } }

    /// Gives what it was.
    func raise() -> Bool {
      lock.withLock {
        defer { raised = true }
        return raised
      }
    }
  }
}
