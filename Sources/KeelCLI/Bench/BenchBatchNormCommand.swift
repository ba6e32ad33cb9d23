import ArgumentParser
import Keel

struct BenchBatchNormCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "batchnorm", abstract: "Times batch norm in training, in single precision.",
    discussion: """
      A row is the forward or the backward pass over one shape N×C×…, with the channels first (N×C×…) or last (N×…×C). A \
      run gives the queue as many passes as take some 10 ms, one after another, and waits for the last. The smallest \
      mean of a run and the median are printed, rates from the smallest.

      Bytes are counted as the passes over a tensor: 12 an element forward (statistics read x, then it is read again and \
      y written) and 20 backward; 8 and 12 where it is one launch, whose work-items keep their channels in the cache. \
      "copy" is the fastest run of a copy through as many bytes as the operands have, beside it: what fits the caches is \
      copied there. Where not as much is written as read, "reads apart" is what these bytes would take if reading had \
      the rate of a probe that only reads, and writing what a copy takes beyond its reading: a copy moves more bytes a \
      second, counted both ways, than cores can read. "of FMA" is the share of the fastest run of independent \
      multiply-adds. Passes of less than a millisecond have a row in which \(MemoryBenchmark.mergedCount) of them are one \
      launch, as in a training step, and as many copies; KEEL_MERGE=0 leaves it out.
      """)

  @Option(
    name: .customLong("shape"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "N×C×… such as 32x64x56x56; may be given several times.",
      discussion: "Default: 32x64x56x56 and 256x1024.", valueName: "NxC"))
  var shapes: [BatchNormShape] = []

  @Option(
    name: .customLong("layout"),
    help: ArgumentHelp(
      "first or last, where the channels are; may be given several times. Default: both.",
      valueName: "layout"))
  var layouts: [ChannelLayout] = []

  @OptionGroup var options: MemoryBenchOptions

  func run() async throws {
    let console = Console(json: options.bench.json)
    let context = try ComputeContext(try options.bench.deviceOptions.select())
    let shapes = self.shapes.isEmpty ? BatchNormShape.standard : self.shapes
    let layouts = self.layouts.isEmpty ? ChannelLayout.allCases : self.layouts
    try MemoryBenchmark.run(
      shapes.flatMap { shape in
        // [N, C] is both.
        (shape.extents.count == 2 ? [.last] : layouts).flatMap { layout in
          [
            { try forward(shape, layout, context) }, { try backward(shape, layout, context) },
          ]
        }
      }, options: options, on: context, console: console)
  }

  private func forward(
    _ shape: BatchNormShape, _ layout: ChannelLayout, _ context: ComputeContext
  ) throws -> MemoryBenchmark {
    let (tensor, axis) = shape.placed(layout)
    let (count, channels) = (tensor.count, tensor[axis])
    return try MemoryBenchmark(
      "forward \(tensor), C \(layout.rawValue)",
      BatchNormForwardProblem(ChannelExtents(tensor, axis: axis), epsilon: 1e-5), forced: options.variant,
      outputs: try [count, channels, channels, channels].map { try context.zeros($0) },
      inputs: try [count, channels, channels].enumerated().map { try context.noise($1, stream: UInt64($0)) },
      traffic: { .init(reads: Double(count) * ($0 == 1 ? 4 : 8), writes: Double(count) * 4) }, on: context)
  }

  private func backward(
    _ shape: BatchNormShape, _ layout: ChannelLayout, _ context: ComputeContext
  ) throws -> MemoryBenchmark {
    let (tensor, axis) = shape.placed(layout)
    let (count, channels) = (tensor.count, tensor[axis])
    return try MemoryBenchmark(
      "backward \(tensor), C \(layout.rawValue)",
      BatchNormBackwardProblem(ChannelExtents(tensor, axis: axis), epsilon: 1e-5), forced: options.variant,
      outputs: try [count, channels, channels].map { try context.zeros($0) },
      // Any mean and variance do, here no spread at all.
      inputs: try [count, count, channels].enumerated().map { try context.noise($1, stream: UInt64($0)) }
        + [channels, channels, channels].map { try context.zeros($0) },
      traffic: { .init(reads: Double(count) * ($0 == 1 ? 8 : 16), writes: Double(count) * 4) }, on: context)
  }
}

/// N, C and the extents behind them.
struct BatchNormShape: Hashable, ExpressibleByArgument {
  var extents: [Int]

  /// A layer of a network for images, and a dense one.
  static let standard = [BatchNormShape([32, 64, 56, 56]), BatchNormShape([256, 1024])]
  /// Elements: a gigabyte.
  private static let limit = 1 << 28

  init(_ extents: [Int]) { self.extents = extents }

  init?(argument: String) {
    extents = argument.split(whereSeparator: { "x×".contains($0) }).map { Int($0) ?? 0 }
    var count = 1
    for extent in extents {
      guard (1...Self.limit / count).contains(extent) else { return nil }
      count *= extent
    }
    guard (2...5).contains(extents.count) else { return nil }
  }

  /// The tensor in a layout, and the axis of its channels.
  func placed(_ layout: ChannelLayout) -> (Shape, axis: Int) {
    switch layout {
    case .first: (Shape(extents), 1)
    case .last: (Shape([extents[0]] + extents[2...] + [extents[1]]), extents.count - 1)
    }
  }
}

/// Where the channels of a tensor are: behind the samples, or behind everything.
enum ChannelLayout: String, CaseIterable, ExpressibleByArgument {
  case first
  case last
}
