import ArgumentParser
import Foundation
import Keel

struct BenchScaleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale", abstract: "Times training over data sets of growing size: the cost of a sample.",
    discussion: """
      mnist-bn is trained on noise of 8×8 bytes a sample, ten million samples are 640 MB, once resident on the device and \
      once streamed from host memory, all sizes in turns. A run is as many epochs as pass over --run samples, one at \
      least, and its time is that of whole epochs: the order of the samples is drawn, steps run, the history is read back. The \
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

  @Option(
    name: .customLong("run"), parsing: .unconditional,
    help: ArgumentHelp(
      "Samples of a run. Default: those of the largest size, so that all runs take as long.", valueName: "n"))
  var samplesPerRun: Int?

  @Flag(
    help: """
      Images of 28×28 bytes instead, some thousands of them over and over as they are read: ten million, 7.8 GB, are more \
      than a device may hold.
      """)
  var images = false

  @OptionGroup var options: BenchOptions

  func validate() throws {
    try expect((2...65536).contains(batchSize), "--batch-size", "2 to 65536", got: batchSize)
    if let samplesPerRun {
      try expect((1...1_000_000_000).contains(samplesPerRun), "--run", "1 to 1000000000", got: samplesPerRun)
    }
    for size in sizes {
      try expect((2...Self.sizeLimit).contains(size), "--samples", "2 to \(Self.sizeLimit)", got: size)
    }
  }

  private var allSizes: [Int] { sizes.isEmpty ? [1000, 10_000, 100_000, 1_000_000, 10_000_000] : sizes }

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
    var contenders: [Contender] = []
    for size in allSizes {
      console.progress(always: true) { _ in "\(Text.count(size)) samples …" }
      contenders += try self.contenders(size, device)
    }
    // The first run is a warm-up.
    for run in 0...options.repeats {
      for index in contenders.indices {
        console.progress { _ in "run \(run) of \(options.repeats), \(Text.count(contenders[index].data.count)) samples"
        }
        let times = try time(contenders[index], console)
        if run == 0 { continue }
        contenders[index].runs.append(times.all)
        contenders[index].steps.append(times.steps)
      }
    }
    console.endProgress()

    var rows = contenders.map { contender in
      let resident = contenders.first { $0.data.count == contender.data.count && !$0.isStreamed }?.runs.minimum
      return Row(
        samples: contender.data.count, isStreamed: contender.isStreamed, epochs: epochs(contender.data.count),
        nanoseconds: Figure(contender.runs.minimum), median: Figure(contender.runs.median),
        stepNanoseconds: Figure(contender.steps.minimum), ratio: Figure(nil),
        speed: Figure(contender.isStreamed ? resident.map { $0 / contender.runs.minimum } : nil))
    }
    let columns = TextColumns([
      "samples": 12, "where": -8, "epochs": 7, "ns/sample": 10, "median": 9, "steps": 9,
    ])
    console.line(columns.header)
    for row in rows {
      console.line(
        columns.line([
          Text.count(row.samples), row.isStreamed ? "streamed" : "resident", Text.count(row.epochs),
          Text.microseconds(row.nanoseconds.value), Text.microseconds(row.median.value),
          Text.microseconds(row.stepNanoseconds.value),
        ]))
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
    let data: any SampleSource
    let trainer: Trainer
    let isStreamed: Bool
    /// Of a sample, in nanoseconds.
    var runs = Timing()
    var steps = Timing()
  }

  /// Of a run over a set of as many samples.
  private func epochs(_ size: Int) -> Int { max((samplesPerRun ?? allSizes.max() ?? size) / size, 1) }

  private func contenders(_ size: Int, _ device: Device) throws -> [Contender] {
    let data: any SampleSource =
      images ? try RepeatedNoise(count: size) : try Dataset.noise(count: size, shape: Self.shape)
    let recipe = Recipe.mnistBN
    func reason(_ placement: DataPlacement) -> String? {
      placement.streamingReason(data, batchSize: batchSize, on: device)
    }
    return try [false, true].filter { (reason($0 ? .streamed : .automatic) != nil) == $0 }.map { isStreamed in
      let trainer = try Trainer(
        recipe.network(inputs: data.featureCount, classes: data.classCount), loss: .softmaxCrossEntropy,
        optimizer: recipe.optimizer, on: device)
      return Contender(data: data, trainer: trainer, isStreamed: isStreamed)
    }
  }

  /// Nanoseconds of a sample in one run, all and of the steps alone.
  private func time(_ contender: Contender, _ console: Console) throws -> (all: Double, steps: Double) {
    let count = contender.data.count * epochs(contender.data.count)
    var begin = ContinuousClock.now
    var end = begin
    let history = try contender.trainer.fit(
      contender.data, epochs: epochs(contender.data.count), batchSize: batchSize,
      placement: contender.isStreamed ? .streamed : .resident
    ) { event in
      if case .compiled = event { begin = .now }
      end = .now
      return !console.isClosed
    }
    guard !console.isClosed else { throw ExitCode(Interruption.closedOutputExitCode) }
    return ((end - begin) / .nanoseconds(count), history.trainSeconds * 1e9 / Double(count))
  }
}
