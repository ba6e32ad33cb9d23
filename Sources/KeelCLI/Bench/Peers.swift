import Foundation
import Keel

/// The frameworks that Keel is timed against: scripts of `Benchmarks/peers`, run by a Python that has them.
struct Peers {
  /// Of the scripts.
  let folder: String
  let python: String
  /// Seconds that a script may take for one answer.
  let timeout: Double
  /// What is not there, each with the way to get it.
  private(set) var missing: [String] = []

  /// The program that calls CLBlast, which `Benchmarks/peers/setup` builds.
  var clblast: String {
    let environment = ProcessInfo.processInfo.environment
    return (environment["KEEL_PEERS_BIN"] ?? (environment["HOME"] ?? "") + "/.cache/keel/peers-bin") + "/gemm_clblast"
  }

  private static let modules = ["numpy", "torch", "jax"]

  /// - Parameters:
  ///   - folder: of the scripts; nil for `Benchmarks/peers` in the current folder or in one above this program's.
  ///   - python: nil for that of `KEEL_PEERS_VENV`, else of `~/.cache/keel/peers`.
  init(folder: String?, python: String?, timeout: Double) throws {
    self.timeout = timeout
    let environment = ProcessInfo.processInfo.environment
    let venv = environment["KEEL_PEERS_VENV"] ?? (environment["HOME"] ?? "") + "/.cache/keel/peers"
    self.python = python ?? venv + "/bin/python"
    let found = try folder ?? Self.find()
    self.folder = found ?? "Benchmarks/peers"
    let files = FileManager.default
    guard found != nil, files.fileExists(atPath: self.folder + "/measure.py") else {
      missing.append("the scripts: \(self.folder) has no measure.py; name Keel's Benchmarks/peers with --peers")
      return
    }
    guard files.isExecutableFile(atPath: self.python) else {
      missing.append("a Python with \(Self.modules.joined(separator: ", ")): no \(self.python); \(setup)")
      return
    }
    let test = "import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"
    let absent = String(
      decoding: try ChildProcess(self.python, ["-c", test] + Self.modules, timeout: timeout).output(), as: UTF8.self
    ).split(whereSeparator: \.isWhitespace)
    if !absent.isEmpty { missing.append("\(absent.joined(separator: ", ")) of \(self.python); \(setup)") }
  }

  private var setup: String { "run \(folder)/setup, or name another Python with --python or KEEL_PEERS_VENV" }

  func script(_ name: String) -> String { folder + "/" + name }

  /// What a whole process takes.
  struct Usage: Decodable {
    var code: Int32
    var seconds: Double
    var peakBytes: Double
  }

  /// Runs a command to its end. Throws when it fails.
  func usage(of command: [String]) throws -> Usage {
    let usage = try JSONDecoder().decode(
      Usage.self, from: ChildProcess(python, [script("process.py")] + command, timeout: timeout).output())
    guard usage.code == 0 else {
      throw CommandError("bench", "\(command.prefix(3).joined(separator: " ")) … failed with code \(usage.code)")
    }
    return usage
  }

  private static func find() throws -> String? {
    var places = [FileManager.default.currentDirectoryPath]
    var above = URL(fileURLWithPath: try ChildProcess.ownExecutable()).resolvingSymlinksInPath()
    while above.path != "/" {
      above.deleteLastPathComponent()
      places.append(above.path)
    }
    return places.map { $0 + "/Benchmarks/peers" }.first {
      FileManager.default.fileExists(atPath: $0 + "/measure.py")
    }
  }
}

/// One framework in a process of its own, on so many cores, that does a job when it is asked.
final class PeerServer {
  struct Job: Encodable {
    /// `step` or `evaluate`.
    var work: String
    var form: String
    var recipe: String
    var batchSize: Int
  }

  let name: String
  let threads: Int
  private let process: ChildProcess

  /// How long the threads of a framework go on looking for work after a job; what is timed next waits that long.
  private static let pause = 0.04

  private struct Greeting: Decodable { var peer: String }
  private struct Reply: Decodable { var microseconds: Double }

  convenience init(_ peers: Peers, script: String, threads: Int, steps: Int) throws {
    let options = ["--serve", "--threads", "\(threads)", "--steps", "\(steps)"]
    try self.init(peers.python, [peers.script(script)] + options, threads: threads, timeout: peers.timeout)
  }

  /// A program that says who it is and then answers each line with a time.
  init(_ program: String, _ arguments: [String], threads: Int, timeout: Double) throws {
    process = ChildProcess(program, arguments, timeout: timeout)
    try process.start()
    name = try JSONDecoder().decode(Greeting.self, from: process.line()).peer
    self.threads = threads
  }

  /// Of a step or of an evaluation. The first time the job is made and done once before.
  func microseconds(_ job: Job) throws -> Double { try microseconds(JSONEncoder().encode(job)) }

  /// Of what the line names.
  func microseconds(_ job: Data) throws -> Double {
    try process.say(job)
    let reply = try JSONDecoder().decode(Reply.self, from: process.line())
    Thread.sleep(forTimeInterval: Self.pause)
    return reply.microseconds
  }
}
