import Foundation
import Keel

/// A process whose standard output is read, and which may be asked by lines on its standard input.
final class ChildProcess {
  private let process = Process()
  private let input = Pipe()
  private let outputPipe = Pipe()
  private let title: String
  private var rest = Data()

  /// - Parameter environment: added to that of this process.
  init(_ executable: String, _ arguments: [String], environment: [String: String] = [:]) {
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = input
    process.standardOutput = outputPipe
    title = ([URL(fileURLWithPath: executable).lastPathComponent] + arguments.prefix(3)).joined(separator: " ")
  }

  /// Where this program lies.
  static func ownExecutable() throws -> String {
    guard let path = Bundle.main.executablePath else { throw CommandError("bench", "expects to know its own path") }
    return path
  }

  /// Runs to the end, and gives what was printed. Throws when it fails.
  func output() throws -> Data {
    try start()
    try input.fileHandleForWriting.close()
    let data = try outputPipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    guard process.terminationReason == .exit, process.terminationStatus == 0 else { throw failure() }
    return data
  }

  /// Starts it, to be asked by ``ask(_:)``.
  func start() throws { try process.run() }

  /// Writes a line. Throws when nobody reads it.
  func say(_ line: Data) throws { try input.fileHandleForWriting.write(contentsOf: line + Data("\n".utf8)) }

  /// The next line of its output. Throws when there is none.
  func line() throws -> Data {
    while true {
      if let end = rest.firstIndex(of: 10) {
        let line = Data(rest[..<end])
        rest = Data(rest[(end + 1)...])
        return line
      }
      let data = outputPipe.fileHandleForReading.availableData
      guard !data.isEmpty else {
        process.waitUntilExit()
        throw failure()
      }
      rest += data
    }
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
