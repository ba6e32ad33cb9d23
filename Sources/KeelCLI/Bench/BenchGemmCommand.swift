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
      the smallest, and its share of the fastest run of independent multiply-adds beside it; GB/s are of three matrices, \
      each read or written once. Each product has launches of \
      its own. Those that are so small that a training step would merge them with its other launches have a second row, \
      of \(GemmBenchmark.mergedCount) products to a launch; KEEL_MERGE=0 leaves it out. What a launch takes that does \
      nothing is printed last.

      With --compare runs alternate with those of OpenBLAS, with as many threads as the device has compute units. Before \
      each timed run of either there is one that is not, to wake its threads, and OpenBLAS' have gone to sleep before the \
      other is timed. Ratios are OpenBLAS' time divided by Keel's, of the smallest times and of the medians: above 1 Keel \
      is faster. OpenBLAS is called once a product, also beside products that are merged. The geometric mean and the \
      worst come last: of single calls, and with the merged row in place of the single one where there is one.
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
    /// The smallest mean of a run, each product with launches of its own.
    var microseconds: Figure
    /// The median of the runs' means.
    var median: Figure
    var gflops: Figure
    /// Of the fastest run of the probe.
    var shareOfRoof: Figure
    /// Of three matrices, each read or written once.
    var gigabytesPerSecond: Figure
    var peerMicroseconds: Figure?
    var peerMedian: Figure?
    /// The peer's smallest time divided by this one's.
    var ratio: Figure?
    /// The same of the medians.
    var ratioOfMedians: Figure?
    /// Where a training step would merge the product: how many there are to a launch, and their figures. The peer has
    /// one a call here, too.
    var productsPerLaunch: Int?
    var mergedMicroseconds: Figure?
    var mergedMedian: Figure?
    var mergedRatio: Figure?
    var mergedRatioOfMedians: Figure?
  }

  /// The line of `--json`; what compares is there with `--compare`. Ratios are of single calls, those that say so with
  /// the merged figures of products that have such.
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
    var geometricMeanRatioMerged: Figure?
    var worstRatioMerged: Figure?
    var geometricMeanRatioOfMediansMerged: Figure?
    var worstRatioOfMediansMerged: Figure?
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
    let columns = TextColumns([
      "M×N×K": -14, "": -2, "variant": -10, "µs": 9, "median": 9, "GFLOP/s": 7, "of roof": 7, "GB/s": 6,
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
        for cells in Self.cells(row) { console.line(columns.line(cells)) }
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
      report.peer = peer.name
      let columns = TextColumns([
        "ratio to the peer": -26, "mean": 6, "worst": 6, "mean of medians": 16, "worst ": 6,
      ])
      console.line("\n" + columns.header)
      func line(_ title: String, _ ratio: (Row) -> Figure?, _ ofMedians: (Row) -> Figure?) -> [Figure] {
        let (ratios, medians) = (rows.compactMap { ratio($0)?.value }, rows.compactMap { ofMedians($0)?.value })
        let figures = [ratios.geometricMean, ratios.min(), medians.geometricMean, medians.min()]
        console.line(columns.line([title] + figures.map(Text.ratio)))
        return figures.map { Figure($0) }
      }
      let single = line("single calls", \.ratio, \.ratioOfMedians)
      (report.geometricMeanRatio, report.worstRatio) = (single[0], single[1])
      (report.geometricMeanRatioOfMedians, report.worstRatioOfMedians) = (single[2], single[3])
      if rows.contains(where: { $0.productsPerLaunch != nil }) {
        let merged = line(
          "small ones merged", { $0.mergedRatio ?? $0.ratio }, { $0.mergedRatioOfMedians ?? $0.ratioOfMedians })
        (report.geometricMeanRatioMerged, report.worstRatioMerged) = (merged[0], merged[1])
        (report.geometricMeanRatioOfMediansMerged, report.worstRatioOfMediansMerged) = (merged[2], merged[3])
      }
    }
    if options.json { try console.json(report) }
  }

  /// The row, and the roof beside it in operations a second.
  private func measure(
    _ benchmark: GemmBenchmark, _ peer: OpenBLASPeer?, _ roofline: Roofline
  ) throws -> (Row, roof: Double) {
    let count = try Timing.count { try benchmark.seconds(count: $0) }
    if let peer {
      _ = peer.seconds(benchmark, count: 1)
      try expectAgreement(benchmark, peer)
      if try benchmark.mergedSeconds(count: 1) != nil { try expectAgreement(benchmark, peer) }
    }

    var (own, merged, other, roof) = (Timing(), Timing(), Timing(), 0.0)
    for _ in 0..<options.repeats {
      if let peer {
        // Each side is run before it is timed, so that its threads are awake, each on a core.
        _ = peer.seconds(benchmark, count: 2 * count)
        other.append(peer.seconds(benchmark, count: count))
        peer.rest()
        _ = try benchmark.seconds(count: 2 * count)
      }
      own.append(try benchmark.seconds(count: count))
      _ = try benchmark.mergedSeconds(count: 2 * count)
      if let seconds = try benchmark.mergedSeconds(count: count) { merged.append(seconds) }
      roof = max(roof, try roofline.flopsPerSecond())
    }
    let shape = benchmark.shape
    var row = Row(
      m: shape.m, n: shape.n, k: shape.k, transposition: benchmark.transposition, variant: benchmark.variant,
      microseconds: Figure(own.minimum * 1e6), median: Figure(own.median * 1e6),
      gflops: Figure(shape.flops / own.minimum * 1e-9), shareOfRoof: Figure(shape.flops / own.minimum / roof),
      gigabytesPerSecond: Figure(shape.bytes / own.minimum * 1e-9))
    if !merged.samples.isEmpty {
      row.productsPerLaunch = GemmBenchmark.mergedCount
      row.mergedMicroseconds = Figure(merged.minimum * 1e6)
      row.mergedMedian = Figure(merged.median * 1e6)
    }
    if peer != nil {
      row.peerMicroseconds = Figure(other.minimum * 1e6)
      row.peerMedian = Figure(other.median * 1e6)
      row.ratio = Figure(other.minimum / own.minimum)
      row.ratioOfMedians = Figure(other.median / own.median)
      row.mergedRatio = row.mergedMicroseconds.map { _ in Figure(other.minimum / merged.minimum) }
      row.mergedRatioOfMedians = row.mergedMedian.map { _ in Figure(other.median / merged.median) }
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

  /// A line for single calls, and one for merged products where there are such.
  private static func cells(_ row: Row) -> [[String]] {
    let shape = GemmShape(m: row.m, n: row.n, k: row.k)
    let peer =
      row.peerMicroseconds.map { [Text.microseconds($0.value), Text.microseconds(row.peerMedian?.value)] } ?? []
    let single =
      [shape.text, row.transposition.rawValue, row.variant]
      + [Text.microseconds(row.microseconds.value), Text.microseconds(row.median.value)]
      + [row.gflops.value.map { String(format: "%.1f", $0) } ?? "–", row.shareOfRoof.value.map(Text.percent) ?? "–"]
      + [Text.rate(row.gigabytesPerSecond.value)] + peer
      + [row.ratio, row.ratioOfMedians].compactMap { $0.map { Text.ratio($0.value) } }
    guard let merged = row.mergedMicroseconds, let median = row.mergedMedian else { return [single] }
    let rate = merged.value.map { shape.flops / $0 * 1e-3 }
    let roof = row.gflops.value.flatMap { own in row.shareOfRoof.value.map { own / $0 } }
    let share = rate.flatMap { rate in roof.map { Text.percent(rate / $0) } }
    let second =
      [
        "", "", "merged ×\(row.productsPerLaunch ?? 1)", Text.microseconds(merged.value),
        Text.microseconds(median.value),
      ]
      + [rate.map { String(format: "%.1f", $0) } ?? "–", share ?? "–"]
      + [Text.rate(merged.value.map { shape.bytes / $0 * 1e-3 })] + peer
      + [row.mergedRatio, row.mergedRatioOfMedians].compactMap { $0.map { Text.ratio($0.value) } }
    return [single, second]
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
