import ArgumentParser
import Foundation
import Keel

struct BenchCompareCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare", abstract: "Times the same work in Keel, PyTorch, JAX, OpenBLAS and CLBlast.",
    usage: "keel bench --compare [options]",
    discussion: """
      The parts are steps (a training step of each --recipe at each --batch-size), evaluation (of 10,000 \
      images by hands-on with its batch norms folded, at batches of 32 and 1000), mnist (the whole process of training \
      mnist-bn on MNIST for 10 epochs with evaluation: time and peak memory), products (those of `keel bench gemm`, \
      in calls of their own, and the small ones merged as in a training step, beside OpenBLAS) and clblast (the same in \
      calls of their own, beside CLBlast on the same OpenCL device).

      A peer has a row for each of its forms, with the number of threads that was best of 1, 2 and all cores in two runs \
      that are not counted. Then all take turns, --repeat times. Ratios are the peer's time divided by Keel's, of the \
      smallest times and of the medians: above 1 Keel is faster, or smaller. What each does in a step is written in \
      Benchmarks/peers/README.md.

      Nothing is timed unless everything that the parts need is there. Benchmarks/peers/setup makes the \
      peers' Python environment and the program that calls CLBlast, once.
      """, shouldDisplay: false)

  @Flag(help: "Compare with PyTorch, JAX, OpenBLAS and CLBlast.")
  var compare = false

  @Option(
    name: .customLong("part"),
    help: ArgumentHelp(
      "steps, evaluation, mnist, products or clblast; may be given several times. Default: all.", valueName: "part"))
  var parts: [ComparedPart] = []

  @Option(help: ArgumentHelp("Keel's folder Benchmarks/peers.", valueName: "folder"))
  var peers: String?

  @Option(
    help: ArgumentHelp(
      "The Python that has PyTorch and JAX.",
      discussion: "Default: that in $KEEL_PEERS_VENV, else ~/.cache/keel/peers.",
      valueName: "file"))
  var python: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Seconds that a peer may take for one answer, compiling included.", valueName: "s"))
  var timeout = 600.0

  @OptionGroup(title: "Options of the steps") var work: StepBenchOptions
  @OptionGroup var options: BenchOptions

  func validate() throws { try expect((0.1...1e6).contains(timeout), "--timeout", "0.1 to 1000000", got: timeout) }

  /// The line of `--json`.
  struct Report: Encodable {
    var device: String
    var rows: [ComparedRow]
  }

  func run() async throws {
    guard compare else { throw CleanExit.helpRequest(BenchCommand.self) }
    let console = Console(json: options.json)
    let parts = parts.isEmpty ? ComparedPart.allCases : parts
    let peers = try Peers(folder: self.peers, python: python, timeout: timeout)
    let missing = (parts.contains(where: \.needsPeers) ? peers.missing : []) + parts.compactMap { $0.missing(peers) }
    guard missing.isEmpty else {
      throw CommandError("bench", "--compare misses\n" + missing.map { "  \($0)" }.joined(separator: "\n"))
    }
    let device = try options.deviceOptions.select()
    console.line("device    \(device.name)\n")
    let columns = TextColumns([
      "work": -28, "unit": -4, "Keel": 8, "median": 8, "peer": -30, "best": 8, "median ": 8, "ratio": 6,
      "of medians": 10, "target": 6,
    ])
    console.line(columns.header)
    var rows: [ComparedRow] = []
    let comparison = PeerComparison(
      device: device, deviceName: options.deviceOptions.device, peers: peers, repeats: options.repeats, work: work,
      console: console
    ) { row in
      rows.append(row)
      console.line(columns.line(row.cells))
    }
    for part in parts {
      try comparison.run(part)
      if console.isClosed { throw ExitCode(Interruption.closedOutputExitCode) }
    }
    if options.json { try console.json(Report(device: device.name, rows: rows)) }
  }
}

/// What `keel bench --compare` compares.
enum ComparedPart: String, CaseIterable, ExpressibleByArgument, Encodable {
  case steps, evaluation, mnist, products, clblast

  /// Whether it needs Python with PyTorch and JAX.
  fileprivate var needsPeers: Bool { self != .products && self != .clblast }

  /// What it needs besides Python, when that is not there.
  fileprivate func missing(_ peers: Peers) -> String? {
    switch self {
    case .steps, .evaluation: nil
    case .mnist:
      (try? MNIST.locate()) == nil ? "MNIST: name its folder by KEEL_DATA, or run keel train --data mnist" : nil
    case .products:
      (try? OpenBLASPeer(threads: 1)) == nil ? "OpenBLAS; on Debian: apt install libopenblas0-pthread" : nil
    case .clblast:
      FileManager.default.isExecutableFile(atPath: peers.clblast)
        ? nil : "CLBlast: no \(peers.clblast); on Debian: apt install libclblast-dev; then \(peers.folder)/setup-gemm"
    }
  }
}

/// The same work on both sides.
struct ComparedRow: Encodable {
  enum Unit: String, Encodable {
    case microseconds = "µs"
    case seconds = "s"
    case megabytes = "MB"
  }

  var part: ComparedPart
  var work: String
  var unit: Unit
  /// The smallest and the median of Keel's runs.
  var keel: Figure
  var keelMedian: Figure
  /// Version, form and threads.
  var peer: String
  /// The smallest and the median of the peer's runs.
  var other: Figure
  var otherMedian: Figure
  /// The peer's smallest divided by Keel's.
  var ratio: Figure
  /// The same of the medians.
  var ratioOfMedians: Figure
  /// The least ratio that Keel is made for.
  var target: Double

  /// The smallest and the median of a side's runs.
  typealias Extract = (minimum: Double, median: Double)

  init(
    _ part: ComparedPart, _ work: String, _ unit: Unit, keel: Extract, peer: String, other: Extract, target: Double
  ) {
    (self.part, self.work, self.unit, self.peer, self.target) = (part, work, unit, peer, target)
    (self.keel, keelMedian) = (Figure(keel.minimum), Figure(keel.median))
    (self.other, otherMedian) = (Figure(other.minimum), Figure(other.median))
    (ratio, ratioOfMedians) = (Figure(other.minimum / keel.minimum), Figure(other.median / keel.median))
  }

  var cells: [String] {
    func text(_ figure: Figure) -> String {
      unit == .seconds
        ? figure.value.map { String(format: "%.2f", $0) } ?? "–" : Text.microseconds(figure.value)
    }
    return [
      work, unit.rawValue, text(keel), text(keelMedian), peer, text(other), text(otherMedian), Text.ratio(ratio.value),
      Text.ratio(ratioOfMedians.value), "≥ \(Text.ratio(target))",
    ]
  }
}
