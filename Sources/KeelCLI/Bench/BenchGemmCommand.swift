import ArgumentParser
import Foundation
import Keel

struct BenchGemmCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gemm", abstract: "Times products of matrices in single precision.",
    discussion: """
      A row is one product C[M, N] = op(A)·op(B) with K terms a sum, in a transposition: NT stores B as [N, K], TN stores \
      A as [K, M]. A run gives the queue as many products as take some 10 ms, one after another, and waits for the last; \
      packing and all launches are part of the time. The smallest mean of a run and the median are printed, GFLOP/s from \
      the smallest, and its share of the fastest run of independent multiply-adds beside it. Products that are so small \
      that a training step would merge them with its other launches are merged here too, and the row says how many to a \
      launch; KEEL_MERGE=0 gives each its own. What a launch takes that does nothing is printed last.

      With --compare runs alternate with those of OpenBLAS, with as many threads as the device has compute units. Before \
      each timed run of either there is one that is not, to wake its threads, and OpenBLAS' have gone to sleep before the \
      other is timed. Ratios are OpenBLAS' time divided by Keel's, of the smallest times and of the medians: above 1 Keel \
      is faster. The geometric mean and the worst over all rows come last.
      """)

  @Option(
    name: .customLong("shape"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "A product to time, such as 256x300x784; may be given several times.",
      discussion: """
        Default: cubes, and products of training steps: \(GemmShape.standard.map(\.text).joined(separator: ", ")).
        """, valueName: "MxNxK"))
  var shapes: [GemmShape] = []

  @Option(
    name: .customLong("transpose"),
    help: ArgumentHelp("NN, NT, TN or TT; may be given several times. Default: the first three.", valueName: "kind"))
  var transpositions: [Transposition] = []

  @Option(
    help: ArgumentHelp("A variant of the kernels, instead of the one that the library chooses.", valueName: "name"))
  var variant: String?

  @Flag(help: "Time OpenBLAS beside it.")
  var compare = false

  @OptionGroup var options: BenchOptions

  struct Row: Encodable {
    var m: Int
    var n: Int
    var k: Int
    var transposition: Transposition
    var variant: String
    /// More than one where a training step would merge the product with its neighbours.
    var productsPerLaunch: Int
    /// The smallest mean of a run.
    var microseconds: Figure
    /// The median of the runs' means.
    var median: Figure
    var gflops: Figure
    /// Of the fastest run of the probe.
    var shareOfRoof: Figure
    var peerMicroseconds: Figure?
    var peerMedian: Figure?
    /// The peer's smallest time divided by this one's.
    var ratio: Figure?
    /// The same of the medians.
    var ratioOfMedians: Figure?
  }

  /// The line of `--json`; what compares is there with `--compare`.
  struct Report: Encodable {
    var device: String
    var roofGflops: Figure
    /// Of a launch that does nothing.
    var emptyLaunchMicroseconds: Figure
    var peer: String?
    var geometricMeanRatio: Figure?
    var worstRatio: Figure?
    var geometricMeanRatioOfMedians: Figure?
    var worstRatioOfMedians: Figure?
    var shapes: [Row]
  }

  func run() async throws {
    let console = Console(json: options.json)
    let context = try ComputeContext(try options.deviceOptions.select())
    let peer = compare ? try OpenBLASPeer(threads: context.profile.computeUnits) : nil
    let roofline = try Roofline(context)
    console.line("device    \(context.device.name)")
    if let peer { console.line("peer      \(peer.name)") }
    console.line()
    let columns = BenchColumns([
      "M×N×K": -14, "": -2, "variant": -10, "µs": 9, "median": 9, "GFLOP/s": 7, "of roof": 7,
      "peer µs": compare ? 9 : 0, "median ": compare ? 9 : 0, "ratio": compare ? 5 : 0, "of medians": compare ? 10 : 0,
    ])
    console.line(columns.header)

    var (rows, roofs): ([Row], [Double]) = ([], [])
    for shape in shapes.isEmpty ? GemmShape.standard : shapes {
      for transposition in transpositions.isEmpty ? [.nn, .nt, .tn] : transpositions {
        let benchmark = try GemmBenchmark(
          shape, transposition, forced: variant, merges: Executable.Options.environment.merges, on: context)
        let (row, roof) = try measure(benchmark, peer, roofline)
        rows.append(row)
        roofs.append(roof)
        console.line(columns.line(Self.cells(row)))
        if console.isClosed { throw ExitCode(Interruption.closedOutputExitCode) }
      }
    }
    let emptyLaunch = try EmptyLaunch(context)
    let launchSeconds = try (0..<options.repeats + 1).map { _ in try emptyLaunch.seconds() }.min() ?? .nan
    console.line("\na launch that does nothing takes \(Text.microseconds(launchSeconds * 1e6)) µs")
    var report = Report(
      device: context.device.name, roofGflops: Figure(roofs.max().map { $0 * 1e-9 }),
      emptyLaunchMicroseconds: Figure(launchSeconds * 1e6), shapes: rows)
    if let peer {
      let ratios = rows.compactMap { $0.ratio?.value }
      let ratiosOfMedians = rows.compactMap { $0.ratioOfMedians?.value }
      report.peer = peer.name
      report.geometricMeanRatio = Figure(ratios.geometricMean)
      report.worstRatio = Figure(ratios.min())
      report.geometricMeanRatioOfMedians = Figure(ratiosOfMedians.geometricMean)
      report.worstRatioOfMedians = Figure(ratiosOfMedians.min())
      console.line("\nratio to the peer, geometric mean and worst")
      console.line("of minima     \(Text.ratio(ratios.geometricMean))  \(Text.ratio(ratios.min()))")
      console.line("of medians    \(Text.ratio(ratiosOfMedians.geometricMean))  \(Text.ratio(ratiosOfMedians.min()))")
    }
    if options.json { try console.json(report) }
  }

  /// Seconds that a run should take, so that neither clock nor wait matter.
  private static let runSeconds = 0.01

  /// The row, and the roof beside it in operations a second.
  private func measure(
    _ benchmark: GemmBenchmark, _ peer: OpenBLASPeer?, _ roofline: Roofline
  ) throws -> (Row, roof: Double) {
    // The first product pays for what the driver compiles at the first launch, the next tell how many make a run.
    _ = try benchmark.seconds(count: 1)
    let estimate = try (0..<3).map { _ in try benchmark.seconds(count: 3) }.min() ?? Self.runSeconds
    let count = max(Int(Self.runSeconds / max(estimate, 1e-9)), 1)
    if let peer {
      _ = peer.seconds(benchmark, count: 1)
      try expectAgreement(benchmark, peer)
    }

    var (own, other, roof) = (Timing(), Timing(), 0.0)
    for _ in 0..<options.repeats {
      if let peer {
        // Each side is run before it is timed, so that its threads are awake, each on a core.
        _ = peer.seconds(benchmark, count: 2 * count)
        other.append(peer.seconds(benchmark, count: count))
        peer.rest()
        _ = try benchmark.seconds(count: 2 * count)
      }
      own.append(try benchmark.seconds(count: count))
      roof = max(roof, try roofline.flopsPerSecond())
    }
    let shape = benchmark.shape
    var row = Row(
      m: shape.m, n: shape.n, k: shape.k, transposition: benchmark.transposition, variant: benchmark.variant,
      productsPerLaunch: benchmark.productsPerLaunch, microseconds: Figure(own.minimum * 1e6),
      median: Figure(own.median * 1e6),
      gflops: Figure(shape.flops / own.minimum * 1e-9), shareOfRoof: Figure(shape.flops / own.minimum / roof))
    if peer != nil {
      row.peerMicroseconds = Figure(other.minimum * 1e6)
      row.peerMedian = Figure(other.median * 1e6)
      row.ratio = Figure(other.minimum / own.minimum)
      row.ratioOfMedians = Figure(other.median / own.median)
    }
    return (row, roof)
  }

  /// Throws when the two have not computed the same: K roundings of sums of K values of at most 1.
  private func expectAgreement(_ benchmark: GemmBenchmark, _ peer: OpenBLASPeer) throws {
    let differences = zip(try benchmark.result(), peer.result(of: benchmark)).map { abs($0 - $1) }
    let bound = 4 * Float(benchmark.shape.k) * Float.ulpOfOne
    guard differences.allSatisfy({ $0 <= bound }) else {
      throw CommandError(
        "bench",
        "\(benchmark.shape.text) \(benchmark.transposition.rawValue), \(benchmark.variant): expects the peer's "
          + "product within \(bound), got a difference of \(differences.max() ?? .nan)")
    }
  }

  private static func cells(_ row: Row) -> [String] {
    var cells = [
      GemmShape(m: row.m, n: row.n, k: row.k).text, row.transposition.rawValue,
      row.variant + (row.productsPerLaunch > 1 ? " ×\(row.productsPerLaunch)" : ""),
      Text.microseconds(row.microseconds.value), Text.microseconds(row.median.value),
      row.gflops.value.map { String(format: "%.1f", $0) } ?? "–", row.shareOfRoof.value.map(Text.percent) ?? "–",
    ]
    if let ratio = row.ratio, let ratioOfMedians = row.ratioOfMedians {
      cells += [
        Text.microseconds(row.peerMicroseconds?.value), Text.microseconds(row.peerMedian?.value),
        Text.ratio(ratio.value), Text.ratio(ratioOfMedians.value),
      ]
    }
    return cells
  }
}

extension GemmShape: ExpressibleByArgument {
  /// M, N and K with `x` or `×` between them.
  init?(argument: String) {
    let extents = argument.split(whereSeparator: { "x×".contains($0) }).map { Int($0) ?? 0 }
    guard extents.count == 3, extents.allSatisfy({ (1...Self.limit).contains($0) }) else { return nil }
    self.init(m: extents[0], n: extents[1], k: extents[2])
  }

  /// Of one extent.
  private static let limit = 8192
}

extension Transposition: ExpressibleByArgument {
  init?(argument: String) { self.init(rawValue: argument.uppercased()) }
}

extension Collection<Double> {
  /// exp of the mean logarithm; nil of nothing.
  var geometricMean: Double? { isEmpty ? nil : exp(reduce(0) { $0 + log($1) } / Double(count)) }
}
