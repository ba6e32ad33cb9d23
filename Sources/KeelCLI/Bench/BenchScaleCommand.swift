import ArgumentParser
import Foundation
import Keel

struct BenchScaleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale", abstract: "Times training over data sets of growing size: the cost of a sample.",
    discussion: """
      mnist-bn is trained on noise of 8×8 bytes a sample that lies on the device: ten million samples are 640 MB. A run \
      is as many epochs as pass over --run samples, one at least, and its time is that of whole epochs: the order of \
      the samples is drawn and written, steps run, the history is read back. The smallest time and the median of --repeat \
      runs are printed a sample, that of the steps alone beside them, and the smallest as a ratio to that of the size \
      where it is least.
      """)

  @Option(
    name: .customLong("samples"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "A size to time; may be given several times. Default: powers of ten from 1000 to 10000000.", valueName: "n"))
  var sizes: [Int] = []

  @Option(parsing: .unconditional, help: ArgumentHelp("Samples of a step.", valueName: "n"))
  var batchSize = 32

  @Option(name: .customLong("run"), parsing: .unconditional, help: ArgumentHelp("Samples of a run.", valueName: "n"))
  var samplesPerRun = 1_000_000

  @OptionGroup var options: BenchOptions

  func validate() throws {
    try expect((2...65536).contains(batchSize), "--batch-size", "2 to 65536", got: batchSize)
    try expect((1...1_000_000_000).contains(samplesPerRun), "--run", "1 to 1000000000", got: samplesPerRun)
    for size in sizes {
      try expect((2...Self.sizeLimit).contains(size), "--samples", "2 to \(Self.sizeLimit)", got: size)
    }
  }

  private static let sizeLimit = 20_000_000
  private static let shape = [8, 8]
  /// Largest ratio of the cost of a sample to the least.
  private static let target = 1.1

  struct Row: Encodable {
    var samples: Int
    /// Epochs of a run.
    var epochs: Int
    /// Of a sample, in the fastest run.
    var nanoseconds: Figure
    /// The median of the runs.
    var median: Figure
    /// Of the steps alone, in the fastest run.
    var stepNanoseconds: Figure
    /// To the row where a sample costs least.
    var ratio: Figure
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var device: String
    var recipe: String
    var batchSize: Int
    /// Of one sample, as stored.
    var sampleShape: [Int]
    var targetRatio: Double
    var sizes: [Row]
  }

  func run() async throws {
    let console = Console(json: options.json)
    let device = try options.deviceOptions.select()
    let shape = Text.extents(Self.shape)
    console.line("\(device.name): mnist-bn, batch \(batchSize), samples of \(shape) bytes, \(options.repeats) runs\n")
    let columns = BenchColumns(["samples": 12, "epochs": 7, "ns/sample": 10, "median": 9, "steps": 9])
    console.line(columns.header)
    var rows: [Row] = []
    for size in sizes.isEmpty ? [1000, 10_000, 100_000, 1_000_000, 10_000_000] : sizes {
      let row = try measure(size, device, console)
      rows.append(row)
      console.line(
        columns.line([
          Text.count(row.samples), Text.count(row.epochs), Text.microseconds(row.nanoseconds.value),
          Text.microseconds(row.median.value), Text.microseconds(row.stepNanoseconds.value),
        ]))
    }
    let least = rows.compactMap(\.nanoseconds.value).min() ?? .nan
    for index in rows.indices { rows[index].ratio = Figure(rows[index].nanoseconds.value.map { $0 / least }) }
    console.line("\nratio to the least, at most \(Self.target):")
    for row in rows {
      console.line(columns.line([Text.count(row.samples), Text.ratio(row.ratio.value)]))
    }
    if options.json {
      try console.json(
        Report(
          device: device.name, recipe: Recipe.mnistBN.rawValue, batchSize: batchSize, sampleShape: Self.shape,
          targetRatio: Self.target, sizes: rows))
    }
  }

  private func measure(_ size: Int, _ device: Device, _ console: Console) throws -> Row {
    console.progress(always: true) { _ in "\(Text.count(size)) samples …" }
    let data = try Dataset.noise(count: size, shape: Self.shape)
    let recipe = Recipe.mnistBN
    let trainer = try Trainer(
      recipe.network(inputs: data.featureCount, classes: data.classCount), loss: .softmaxCrossEntropy,
      optimizer: recipe.optimizer, on: device)
    let epochs = max(samplesPerRun / size, 1)
    var runs = Timing()
    var begin = ContinuousClock.now
    let history = try trainer.fit(data, epochs: epochs * (options.repeats + 1), batchSize: batchSize) { event in
      if case .epoch(let epoch) = event, epoch.number % epochs == 0 {
        runs.append((ContinuousClock.now - begin) / .nanoseconds(epochs * size))
        begin = .now
        console.progress { _ in "\(Text.count(size)) samples, run \(epoch.number / epochs) of \(options.repeats + 1)" }
      }
      return !console.isClosed
    }
    guard !console.isClosed else { throw ExitCode(Interruption.closedOutputExitCode) }
    // The first run began before anything was compiled.
    let counted = Array(runs.samples.dropFirst())
    let steps = stride(from: epochs, to: history.epochs.count, by: epochs).map { start in
      history.epochs[start..<start + epochs].reduce(0) { $0 + $1.trainSeconds } * 1e9 / Double(epochs * size)
    }
    return Row(
      samples: size, epochs: epochs, nanoseconds: Figure(counted.min()), median: Figure(counted.median),
      stepNanoseconds: Figure(steps.min()), ratio: Figure(nil))
  }
}
