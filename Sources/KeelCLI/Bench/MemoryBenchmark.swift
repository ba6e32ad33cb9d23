import ArgumentParser
import Foundation
import Keel

/// Work on a device that memory should bound: its launches, and the bytes that they have to move.
struct MemoryBenchmark {
  let title: String
  let variant: String
  let traffic: Traffic
  let flops: Double
  let launchCount: Int
  /// Bytes of all operands.
  let workingSet: Int
  private let context: ComputeContext
  private let bound: [BoundLaunch]
  private let launches: [CompiledLaunch]

  /// Bytes that are read and written, at least.
  struct Traffic {
    var reads: Double
    var writes: Double

    var bytes: Double { reads + writes }
    /// Whether a copy is like it: as much is written as read.
    var isEven: Bool { reads == writes }

    /// Seconds where reading has the rate `read` and a copy, counted both ways, the rate `copy`: what a copy takes
    /// beyond its reading is its writing, nothing where it reads as fast by itself.
    func seconds(read: Double, copy: Double) -> Double { reads / read + writes * max(2 / copy - 1 / read, 0) }
  }

  /// How often the work is in a launch where it is merged.
  static let mergedCount = 16
  /// Work of less seconds is also merged: waking a core would show.
  private static let shortSeconds = 1e-3

  /// - Parameters:
  ///   - forced: the variant's name; nil for the one that the library chooses.
  ///   - outputs: of the problem, in order; where an output is changed in place it is no input.
  ///   - traffic: from the number of launches; nil for all inputs and outputs once.
  init<Problem: KernelProblem>(
    _ title: String, _ problem: Problem, forced: String?, outputs: [Buffer], inputs: [Buffer],
    traffic: ((_ launchCount: Int) -> Traffic)? = nil, on context: ComputeContext
  ) throws {
    self.title = title
    self.context = context
    let bound = try context.bind(problem, forced: forced, outputs: outputs, inputs: inputs)
    variant = bound.variant
    self.bound = bound.launches
    launches = try bound.launches.map { try context.compile($0) }
    launchCount = launches.count
    let (reads, writes) = (inputs.reduce(0) { $0 + $1.byteCount }, outputs.reduce(0) { $0 + $1.byteCount })
    workingSet = reads + writes
    self.traffic = traffic?(launchCount) ?? Traffic(reads: Double(reads), writes: Double(writes))
    flops = launches.reduce(0) { $0 + $1.flops }
  }

  /// The work ``mergedCount`` times as one launch, as in a graph; nil where a graph would not merge it.
  private func merged() throws -> [CompiledLaunch]? {
    let several = [[BoundLaunch]](repeating: bound, count: Self.mergedCount).flatMap { $0 }
    let merged = try context.compile(several, merges: Executable.Options.environment.merges)
    return merged.count < several.count ? merged : nil
  }

  /// Each launch by itself and its smallest time, for who works on it.
  func parts(repeats: Int) throws -> [(label: String, seconds: Double, bytes: Double)] {
    try launches.map { launch in
      let count = try Timing.count { try context.seconds(of: [launch], count: $0) }
      let times = try (0..<repeats).map { _ in try context.seconds(of: [launch], count: count) }
      return (launch.label, times.min() ?? .nan, launch.bytes)
    }
  }
}

extension MemoryBenchmark {
  /// A line of the table, and of `--json`.
  struct Row: Encodable {
    var name: String
    var variant: String
    var launches: Int
    /// The smallest mean of a run.
    var microseconds: Figure
    /// The median of the runs' means.
    var median: Figure
    /// Bytes that are counted.
    var bytes: Double
    var gigabytesPerSecond: Figure
    /// Of the fastest run of a copy through as many bytes as the operands have.
    var copyGigabytesPerSecond: Figure
    var shareOfCopy: Figure
    var gflops: Figure
    /// Where not as much is written as read: the rate of the fastest run that only reads, and that of the work's bytes
    /// if they were read at that rate and written as a copy writes. Probes, and no limits: some work beats them.
    var readGigabytesPerSecond: Figure?
    var apartGigabytesPerSecond: Figure?
    var shareOfApart: Figure?
    /// Of the fastest run of independent multiply-adds.
    var shareOfMultiplyAdds: Figure
    /// The same of what is merged, where it is: how often the work is in a launch, and its figures. Copies are merged, too.
    var timesPerLaunch: Int?
    var mergedMicroseconds: Figure?
    var mergedMedian: Figure?
    var mergedCopyGigabytesPerSecond: Figure?
    var mergedShareOfCopy: Figure?

    /// A line for launches of its own, one for reads and writes apart and one for what is merged.
    fileprivate var lines: [[String]] {
      var lines = [cells]
      if let rate = apartGigabytesPerSecond {
        lines.append(
          ["", "reads apart", "", "", "", Text.rate(rate.value), shareOfApart?.value.map(Text.percent) ?? "–"])
      }
      guard let times = timesPerLaunch, let microseconds = mergedMicroseconds, let median = mergedMedian else {
        return lines
      }
      let rate = Figure(microseconds.value.map { bytes / $0 * 1e-3 })
      return lines + [
        [
          "", "merged ×\(times)", Text.microseconds(microseconds.value), Text.microseconds(median.value),
          Text.rate(rate.value), Text.rate(mergedCopyGigabytesPerSecond?.value),
          mergedShareOfCopy?.value.map(Text.percent) ?? "–",
        ]
      ]
    }

    private var cells: [String] {
      [
        name, variant, Text.microseconds(microseconds.value), Text.microseconds(median.value),
        Text.rate(gigabytesPerSecond.value), Text.rate(copyGigabytesPerSecond.value),
        shareOfCopy.value.map(Text.percent) ?? "–",
        gflops.value == 0 ? "–" : Text.rate(gflops.value),
        gflops.value == 0 ? "–" : shareOfMultiplyAdds.value.map(Text.percent) ?? "–",
      ]
    }
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var device: String
    var rows: [Row]
  }

  func row(repeats: Int) throws -> Row {
    // A sum reads all that it works on, a copy half of that: what is too much for the caches is held against a copy whose
    // source is, too.
    let roofline = try Roofline(
      context,
      workingSet: workingSet < Roofline.uncachedBytes / 2 ? workingSet : max(workingSet, Roofline.uncachedBytes))
    let reading = traffic.isEven ? nil : try ReadRoofline(context, workingSet: workingSet)
    let count = try Timing.count { try context.seconds(of: launches, count: $0) }
    var (own, copy, read, multiplyAdds) = (Timing(), 0.0, 0.0, 0.0)
    for _ in 0..<repeats {
      own.append(try context.seconds(of: launches, count: count))
      copy = max(copy, try roofline.bytesPerSecond())
      read = max(read, try reading?.bytesPerSecond() ?? 0)
      multiplyAdds = max(multiplyAdds, try roofline.flopsPerSecond())
    }
    let bytes = traffic.bytes
    var row = Row(
      name: title, variant: variant, launches: launchCount, microseconds: Figure(own.minimum * 1e6),
      median: Figure(own.median * 1e6), bytes: bytes, gigabytesPerSecond: Figure(bytes / own.minimum * 1e-9),
      copyGigabytesPerSecond: Figure(copy * 1e-9), shareOfCopy: Figure(bytes / own.minimum / copy),
      gflops: Figure(flops / own.minimum * 1e-9), shareOfMultiplyAdds: Figure(flops / own.minimum / multiplyAdds))
    if reading != nil {
      let apart = traffic.seconds(read: read, copy: copy)
      row.readGigabytesPerSecond = Figure(read * 1e-9)
      row.apartGigabytesPerSecond = Figure(bytes / apart * 1e-9)
      row.shareOfApart = Figure(apart / own.minimum)
    }
    if own.minimum < Self.shortSeconds, let merged = try merged() { try measure(merged, repeats: repeats, into: &row) }
    return row
  }

  /// The figures of merged work beside those of merged copies.
  private func measure(_ merged: [CompiledLaunch], repeats: Int, into row: inout Row) throws {
    let times = Double(Self.mergedCount)
    let roofline = try Roofline(context, workingSet: workingSet, copiesPerLaunch: Self.mergedCount)
    let count = try Timing.count { try context.seconds(of: merged, count: $0) }
    var (own, copy) = (Timing(), 0.0)
    for _ in 0..<repeats {
      own.append(try context.seconds(of: merged, count: count) / times)
      copy = max(copy, try roofline.bytesPerSecond())
    }
    row.timesPerLaunch = Self.mergedCount
    row.mergedMicroseconds = Figure(own.minimum * 1e6)
    row.mergedMedian = Figure(own.median * 1e6)
    row.mergedCopyGigabytesPerSecond = Figure(copy * 1e-9)
    row.mergedShareOfCopy = Figure(traffic.bytes / own.minimum / copy)
  }

  /// Times one after the other and prints each line as it comes. A benchmark is made when its turn has come, so that its
  /// buffers are there alone.
  static func run(
    _ benchmarks: [() throws -> MemoryBenchmark], options: MemoryBenchOptions, on context: ComputeContext,
    console: Console
  ) throws {
    let repeats = options.bench.repeats
    console.line("device    \(context.device.name)\n")
    let columns = TextColumns([
      "work": -38, "variant": -15, "µs": 7, "median": 7, "GB/s": 6, "copy": 6, "of copy": 7, "GFLOP/s": 7, "of FMA": 7,
    ])
    console.line(columns.header)
    var rows: [Row] = []
    for benchmark in benchmarks {
      let benchmark = try benchmark()
      let row = try benchmark.row(repeats: repeats)
      rows.append(row)
      for cells in row.lines { console.line(columns.line(cells)) }
      for part in options.launches ? try benchmark.parts(repeats: repeats) : [] {
        let rate = String(format: "%.1f", part.bytes / part.seconds * 1e-9)
        console.line(columns.line(["  " + part.label, "", Text.microseconds(part.seconds * 1e6), "", rate]))
      }
      if console.isClosed { throw ExitCode(Interruption.closedOutputExitCode) }
    }
    if options.bench.json { try console.json(Report(device: context.device.name, rows: rows)) }
  }
}

extension ComputeContext {
  /// A buffer of zeros.
  func zeros(_ count: Int) throws -> Buffer { try buffer(byteCount: count * 4) }
}
