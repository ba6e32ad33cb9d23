import ArgumentParser
import Foundation
import Keel

struct BenchStepCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step", abstract: "Times whole training steps, on noise of MNIST's size.",
    discussion: """
      A row is one network at one batch size; the default is mnist-bn and hands-on at 32 and 256. A run of --steps steps \
      is timed --repeat times, after one that is not counted; the smallest time and the median are printed.
      """)

  @Option(
    name: .customLong("recipe"),
    help: ArgumentHelp("A network to time; may be given several times.", valueName: "recipe"))
  var recipes: [Recipe] = []

  @Option(
    name: .customLong("batch-size"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp("Samples of a step; may be given several times.", valueName: "n"))
  var batchSizes: [Int] = []

  @Option(parsing: .unconditional, help: ArgumentHelp("Steps of a run.", valueName: "n"))
  var steps = 200

  @OptionGroup var options: BenchOptions

  func validate() throws {
    try expect((1...1_000_000).contains(steps), "--steps", "1 to 1000000", got: steps)
    for size in batchSizes { try expect((2...65536).contains(size), "--batch-size", "2 to 65536", got: size) }
    let samples = (batchSizes.max() ?? 256) * steps
    try expect(samples <= Self.sampleLimit, "--steps", "at most \(Self.sampleLimit) samples a run", got: samples)
  }

  /// Samples are resident: a gigabyte of them.
  private static let sampleLimit = 1 << 20

  struct Row: Encodable {
    var recipe: String
    var batchSize: Int
    /// The smallest mean of a run.
    var microseconds: Figure
    /// The median of the runs' means.
    var median: Figure
    /// Launches of a step.
    var launches: Int
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var device: String
    var steps: [Row]
  }

  func run() async throws {
    let console = Console(json: options.json)
    let device = try options.deviceOptions.select()
    console.line("\(device.name): \(options.repeats) runs of \(steps) steps\n")
    let columns = BenchColumns(["recipe": -10, "batch": 6, "µs/step": 9, "median": 9, "launches": 8])
    console.line(columns.header)
    var rows: [Row] = []
    for recipe in recipes.isEmpty ? [.mnistBN, .handsOn] : recipes {
      for batchSize in batchSizes.isEmpty ? [32, 256] : batchSizes {
        let row = try measure(recipe, batchSize, device, console)
        rows.append(row)
        console.line(
          columns.line([
            row.recipe, "\(row.batchSize)", Text.microseconds(row.microseconds.value),
            Text.microseconds(row.median.value), "\(row.launches)",
          ]))
      }
    }
    if options.json { try console.json(Report(device: device.name, steps: rows)) }
  }

  private func measure(_ recipe: Recipe, _ batchSize: Int, _ device: Device, _ console: Console) throws -> Row {
    let data = try Dataset.noise(count: steps * batchSize)
    let trainer = try Trainer(
      recipe.network(inputs: data.featureCount, classes: data.classCount), loss: .softmaxCrossEntropy,
      optimizer: recipe.optimizer, on: device)
    let title = "\(recipe.rawValue), batch \(batchSize)"
    console.progress { _ in "\(title): compiling …" }
    let start = Date()
    let history = try trainer.fit(data, epochs: options.repeats + 1, batchSize: batchSize) { event in
      if case .progress(let epoch, let step, _) = event {
        console.progress { columns in
          ProgressBar.render(
            title, done: (epoch - 1) * steps + step, total: (options.repeats + 1) * steps, width: columns,
            elapsed: Date().timeIntervalSince(start))
        }
      }
      return !console.isClosed
    }
    guard !console.isClosed else { throw ExitCode(Interruption.closedOutputExitCode) }
    // The first run pays for what the driver compiles at a kernel's first launch.
    let times = history.epochs.dropFirst().map { $0.trainSeconds / Double($0.steps) * 1e6 }
    return Row(
      recipe: recipe.rawValue, batchSize: batchSize, microseconds: Figure(times.min()), median: Figure(times.median),
      launches: try trainer.launchesPerStep())
  }
}
