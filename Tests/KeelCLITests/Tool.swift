import Foundation
import Keel
import Testing

/// Tests of the built tool, one after the other: the first ones compile kernels that the others find compiled.
@Suite(.serialized, .timeLimit(.minutes(5))) enum ToolTests {}

/// The built `keel`, run as a user runs it: from a folder, with its output in pipes.
struct Tool {
  struct Outcome {
    var code: Int32
    /// False when a signal, such as that of a trap, ended it.
    var exited: Bool
    var output: String
    var errors: String

    /// The last line of standard output as a JSON object.
    func json(_ location: SourceLocation = #_sourceLocation) throws -> [String: Any] {
      let line = try #require(output.split(separator: "\n").last, "no output; \(errors)", sourceLocation: location)
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
      return try #require(object as? [String: Any], sourceLocation: location)
    }
  }

  /// A folder of its own.
  let folder: URL

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-cli-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  func remove() { try? FileManager.default.removeItem(at: folder) }

  func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  func write(_ bytes: [UInt8], to name: String) throws {
    try Data(bytes).write(to: folder.appendingPathComponent(name))
  }

  /// Runs to the end. What the machine's user has set is left out, but for the device to test on, and what
  /// `scripts/test` sets for all tests, `KEEL_MERGE` and `KEEL_TUNE_DIR`.
  func run(_ arguments: String..., environment: [String: String] = [:]) throws -> Outcome {
    try run(arguments, environment: environment)
  }

  func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Outcome {
    let running = try Running(self, arguments, environment)
    return running.wait()
  }

  /// A process at work.
  final class Running {
    let process = Process()
    private let output = Pipe()
    private let errors: URL

    /// - Parameter closesOutput: nobody reads standard output.
    init(_ tool: Tool, _ arguments: [String], _ environment: [String: String] = [:], closesOutput: Bool = false) throws
    {
      errors = tool.folder.appendingPathComponent("stderr-\(UUID().uuidString)")
      try Data().write(to: errors)
      process.executableURL = try Tool.executable()
      process.arguments = arguments
      process.currentDirectoryURL = tool.folder
      let left = DriverSettings.variables.union([
        "KEEL_DATA", "KEEL_DEBUG", "KEEL_DUMP", "KEEL_FUSE", "KEEL_OMIT", "KEEL_PASSES",
      ])
      var variables = ProcessInfo.processInfo.environment.filter { !left.contains($0.key) }
      variables.merge(environment) { $1 }
      process.environment = variables
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = output
      process.standardError = try FileHandle(forWritingTo: errors)
      if closesOutput { try output.fileHandleForReading.close() }
      try process.run()
    }

    /// Waits until standard output has `text`, or is at its end.
    func waitForOutput(_ text: String) -> String {
      var seen = ""
      while !seen.contains(text) {
        let data = output.fileHandleForReading.availableData
        if data.isEmpty { break }
        seen += String(decoding: data, as: UTF8.self)
      }
      return seen
    }

    func wait(readsOutput: Bool = true) -> Outcome {
      let data = readsOutput ? output.fileHandleForReading.readDataToEndOfFile() : Data()
      process.waitUntilExit()
      let errors = (try? Data(contentsOf: errors)) ?? Data()
      return Outcome(
        code: process.terminationStatus, exited: process.terminationReason == .exit,
        output: String(decoding: data, as: UTF8.self), errors: String(decoding: errors, as: UTF8.self))
    }
  }

  /// The tool lies where the build put the tests.
  static func executable() throws -> URL {
    let places = [Bundle.main.executablePath, CommandLine.arguments.first, Bundle.main.bundlePath].compactMap { $0 }
    let folders = places.map { URL(fileURLWithPath: $0).resolvingSymlinksInPath().deletingLastPathComponent() }
    let candidates = folders.map { $0.appendingPathComponent("keel") }
    return try #require(
      candidates.first { FileManager.default.isExecutableFile(atPath: $0.path) },
      "no built tool at \(candidates.map(\.path)); `swift build --product keel` makes it")
  }
}

/// IDX files of unsigned bytes, written without Keel.
func idx(_ extents: [Int], _ bytes: [UInt8]) -> [UInt8] {
  [0, 0, 8, UInt8(extents.count)]
    + extents.flatMap { extent in (0..<4).map { UInt8(truncatingIfNeeded: extent >> (24 - 8 * $0)) } } + bytes
}

/// A data set that is easily learnt: of 4×4 pixels, one of the first ten is bright, and its place is the class.
func writeQuartet(_ tool: Tool, _ name: String, count: Int = 60) throws {
  try FileManager.default.createDirectory(atPath: tool.path(name), withIntermediateDirectories: true)
  let labels = (0..<count).map { UInt8($0 % 10) }
  let pixels = labels.flatMap { label in (0..<16).map { $0 == Int(label) ? UInt8(250) : UInt8(10) } }
  for part in ["train", "t10k"] {
    try tool.write(idx([count, 4, 4], pixels), to: "\(name)/\(part)-images-idx3-ubyte")
    try tool.write(idx([count], labels), to: "\(name)/\(part)-labels-idx1-ubyte")
  }
}
