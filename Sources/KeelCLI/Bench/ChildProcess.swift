import Foundation
import Keel

/// A process whose standard output is read, and which may be asked by lines on its standard input.
final class ChildProcess {
  private let process = Process()
  private let input = Pipe()
  private let outputPipe = Pipe()
  private let title: String
  private let timeout: Double
  private var rest = Data()

  /// - Parameters:
  ///   - environment: added to that of this process, less what Keel has set there for its own drivers.
  ///   - timeout: seconds that one answer may take: a line, or all of the output.
  init(_ executable: String, _ arguments: [String], environment: [String: String] = [:], timeout: Double = 600) {
    self.timeout = timeout
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment
      .filter { !DriverSettings.variables.contains($0.key) }.merging(environment) { $1 }
    process.standardInput = input
    process.standardOutput = outputPipe
    title = ([URL(fileURLWithPath: executable).lastPathComponent] + arguments.prefix(3)).joined(separator: " ")
  }

  /// Where this program lies.
  static func ownExecutable() throws -> String {
    guard let path = Bundle.main.executablePath else { throw CommandError("bench", "expects to know its own path") }
    return path
  }

  /// Runs to the end, and gives what was printed. Throws when it fails or takes too long.
  func output() throws -> Data {
    try start()
    try input.fileHandleForWriting.close()
    let deadline = ContinuousClock.now + .seconds(timeout)
    var output = Data()
    while true {
      let data = try read(before: deadline)
      if data.isEmpty { break }
      output += data
    }
    try waitForExit(before: deadline)
    guard process.terminationReason == .exit, process.terminationStatus == 0 else { throw failure() }
    return output
  }

  /// Starts it, to be told by ``say(_:)`` and heard by ``line()``.
  func start() throws { try process.run() }

  /// Writes a line. Throws when nobody reads it.
  func say(_ line: Data) throws { try input.fileHandleForWriting.write(contentsOf: line + Data("\n".utf8)) }

  /// The next line of its output. Throws when there is none, or none in time.
  func line() throws -> Data {
    let deadline = ContinuousClock.now + .seconds(timeout)
    while true {
      if let end = rest.firstIndex(of: 10) {
        let line = Data(rest[..<end])
        rest = Data(rest[(end + 1)...])
        return line
      }
      let data = try read(before: deadline)
      guard !data.isEmpty else {
        try waitForExit(before: deadline)
        throw failure()
      }
      rest += data
    }
  }

  /// What has been printed since, as soon as there is something; nothing at the end of the output.
  private func read(before deadline: ContinuousClock.Instant) throws -> Data {
    let handle = outputPipe.fileHandleForReading
    var state = pollfd(fd: handle.fileDescriptor, events: Int16(POLLIN), revents: 0)
    // Not all of it at once: a signal ends the wait early, and the time may be longer than poll takes.
    while poll(&state, 1, 1000) <= 0 {
      guard ContinuousClock.now < deadline else { throw lateness() }
    }
    return handle.availableData
  }

  private func waitForExit(before deadline: ContinuousClock.Instant) throws {
    while process.isRunning {
      guard ContinuousClock.now < deadline else { throw lateness() }
      Thread.sleep(forTimeInterval: 0.001)
    }
    process.waitUntilExit()
  }

  private func lateness() -> CommandError {
    CommandError("bench", "\(title) … gave no answer within \(Text.seconds(timeout))")
  }

  private func failure() -> CommandError {
    CommandError("bench", "\(title) … failed with code \(process.terminationStatus); its messages are above")
  }

  deinit {
    guard process.isRunning else { return }
    // Threads of Swift's tasks block SIGTERM, and a child inherits that.
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }
}

/// A folder of its own that goes with the value.
final class TemporaryFolder {
  private let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent("keel-bench-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  func path(_ name: String) -> String { url.appendingPathComponent(name).path }

  deinit { try? FileManager.default.removeItem(at: url) }
}
