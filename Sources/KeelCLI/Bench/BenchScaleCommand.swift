import ArgumentParser
import Foundation
import Keel

struct BenchScaleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale", abstract: "Times training over data sets of growing size: the cost of a sample.",
    discussion: """
      mnist-bn is trained on noise of 8×8 bytes a sample, ten million samples are 640 MB, once resident on the device and \
      once streamed from host memory, in turns. A run is as many epochs as pass over --run samples, one at least, and \
      its time is that of whole epochs: the order of the samples is drawn, steps run, the history is read back. The \
      smallest time and the median of --repeat runs are printed a sample, that of the steps alone beside them, the \
      smallest as a ratio to that of the size where it is least, and how fast streaming is beside the resident set. Sets \
      that the two windows of a stream hold are not streamed.
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

  @Flag(
    help: """
      Images of 28×28 bytes instead, some thousands of them over and over as they are read: ten million, 7.8 GB, are more \
      than a device may hold.
      """)
  var images = false

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
  /// Least ratio of the cost of a resident sample to that of a streamed one.
  private static let speedTarget = 0.9

  struct Row: Encodable {
    var samples: Int
    var isStreamed: Bool
    /// Epochs of a run.
    var epochs: Int
    /// Of a sample, in the fastest run.
    var nanoseconds: Figure
    /// The median of the runs.
    var median: Figure
    /// Of the steps alone, in the fastest run.
    var stepNanoseconds: Figure
    /// To the row of as streamed or resident samples where one costs least.
    var ratio: Figure
    /// The cost of a resident sample to that of a streamed one.
    var speed: Figure
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var device: String
    var recipe: String
    var batchSize: Int
    /// Of one sample, as stored.
    var sampleShape: [Int]
    var targetRatio: Double
    var targetSpeed: Double
    var sizes: [Row]
  }

  func run() async throws {
    let console = Console(json: options.json)
    let device = try options.deviceOptions.select()
    let sample = images ? [28, 28] : Self.shape
    console.line(
      "\(device.name): mnist-bn, batch \(batchSize), samples of \(Text.extents(sample)) bytes, \(options.repeats) runs\n"
    )
    let columns = TextColumns([
      "samples": 12, "where": -8, "epochs": 7, "ns/sample": 10, "median": 9, "steps": 9,
    ])
    console.line(columns.header)
    var rows: [Row] = []
    for size in sizes.isEmpty ? [1000, 10_000, 100_000, 1_000_000, 10_000_000] : sizes {
      for row in try measure(size, device, console) {
        rows.append(row)
        console.line(
          columns.line([
            Text.count(row.samples), row.isStreamed ? "streamed" : "resident", Text.count(row.epochs),
            Text.microseconds(row.nanoseconds.value), Text.microseconds(row.median.value),
            Text.microseconds(row.stepNanoseconds.value),
          ]))
      }
    }
    for index in rows.indices {
      let alike = rows.filter { $0.isStreamed == rows[index].isStreamed }
      let least = alike.compactMap(\.nanoseconds.value).min() ?? .nan
      rows[index].ratio = Figure(rows[index].nanoseconds.value.map { $0 / least })
    }
    console.line(
      "\nratio to the least, at most \(Self.target); speed beside resident samples, at least \(Self.speedTarget):")
    for row in rows {
      console.line(
        columns.line([
          Text.count(row.samples), row.isStreamed ? "streamed" : "resident", Text.ratio(row.ratio.value),
          row.speed.value.map { Text.ratio($0) } ?? "",
        ]))
    }
    if options.json {
      try console.json(
        Report(
          device: device.name, recipe: Recipe.mnistBN.rawValue, batchSize: batchSize, sampleShape: sample,
          targetRatio: Self.target, targetSpeed: Self.speedTarget, sizes: rows))
    }
  }

  /// A trainer and what its runs took.
  private struct Contender {
    let trainer: Trainer
    let placement: DataPlacement
    let isStreamed: Bool
    /// Of a sample, in nanoseconds.
    var runs = Timing()
    var steps = Timing()
  }

  private func measure(_ size: Int, _ device: Device, _ console: Console) throws -> [Row] {
    console.progress(always: true) { _ in "\(Text.count(size)) samples …" }
    let data: any SampleSource =
      images ? try RepeatedNoise(count: size) : try Dataset.noise(count: size, shape: Self.shape)
    let recipe = Recipe.mnistBN
    func reason(_ placement: DataPlacement) -> String? {
      placement.streamingReason(data, batchSize: batchSize, on: device)
    }
    var contenders: [Contender] = []
    for placement in [DataPlacement.resident, .streamed] {
      let isStreamed = placement == .streamed
      let canBe = (reason(isStreamed ? .streamed : .automatic) != nil) == isStreamed
      guard canBe else { continue }
      let trainer = try Trainer(
        recipe.network(inputs: data.featureCount, classes: data.classCount), loss: .softmaxCrossEntropy,
        optimizer: recipe.optimizer, on: device)
      contenders.append(Contender(trainer: trainer, placement: placement, isStreamed: isStreamed))
    }
    let epochs = max(samplesPerRun / size, 1)
    // The first run is a warm-up.
    for run in 0...options.repeats {
      for index in contenders.indices {
        let contender = contenders[index]
        var begin = ContinuousClock.now
        var end = begin
        let history = try contender.trainer.fit(
          data, epochs: epochs, batchSize: batchSize, placement: contender.placement
        ) { event in
          if case .compiled = event { begin = .now }
          end = .now
          return !console.isClosed
        }
        guard !console.isClosed else { throw ExitCode(Interruption.closedOutputExitCode) }
        console.progress { _ in "\(Text.count(size)) samples, run \(run) of \(options.repeats)" }
        if run == 0 { continue }
        contenders[index].runs.append((end - begin) / .nanoseconds(epochs * size))
        contenders[index].steps.append(history.trainSeconds * 1e9 / Double(epochs * size))
      }
    }
    let resident = contenders.first { !$0.isStreamed }?.runs.minimum
    return contenders.map { contender in
      Row(
        samples: size, isStreamed: contender.isStreamed, epochs: epochs, nanoseconds: Figure(contender.runs.minimum),
        median: Figure(contender.runs.median), stepNanoseconds: Figure(contender.steps.minimum), ratio: Figure(nil),
        speed: Figure(contender.isStreamed ? resident.map { $0 / contender.runs.minimum } : nil))
    }
  }
}
