import ArgumentParser
import Foundation
import Keel

struct BenchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measures this device.",
    discussion: """
      `keel bench --compare` times the same work in Keel, PyTorch, JAX and OpenBLAS, turn by turn, and prints ratios; \
      `keel bench --compare --help` says how.
      """,
    subcommands: [
      BenchStepCommand.self, BenchGemmCommand.self, BenchBatchNormCommand.self, BenchElementwiseCommand.self,
      BenchScaleCommand.self, BenchStartupCommand.self, BenchCompareCommand.self,
    ], defaultSubcommand: BenchCompareCommand.self)
}

/// Options of every measurement.
struct BenchOptions: ParsableArguments {
  @Option(name: .customLong("repeat"), parsing: .unconditional, help: ArgumentHelp("Runs.", valueName: "n"))
  var repeats = 7

  @OptionGroup var deviceOptions: DeviceOptions

  @Flag(help: "Print one JSON object on standard output, everything else on standard error.")
  var json = false

  func validate() throws { try expect((1...1000).contains(repeats), "--repeat", "1 to 1000", got: repeats) }
}

/// Options of the measurements of what memory bounds.
struct MemoryBenchOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("A variant of the kernels, instead of the one that the library chooses.", valueName: "name"))
  var variant: String?

  @Flag(help: "Time each launch by itself, too.")
  var launches = false

  @OptionGroup var bench: BenchOptions
}

/// Options of the measurements of training steps.
struct StepBenchOptions: ParsableArguments {
  @Option(
    name: .customLong("recipe"),
    help: ArgumentHelp(
      "A network to time; may be given several times. Default: mnist-bn and hands-on.", valueName: "recipe"))
  var recipes: [Recipe] = []

  @Option(
    name: .customLong("batch-size"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp("Samples of a step; may be given several times. Default: 32 and 256.", valueName: "n"))
  var batchSizes: [Int] = []

  @Option(parsing: .unconditional, help: ArgumentHelp("Training steps of a run.", valueName: "n"))
  var steps = 200

  /// Samples are resident: a gigabyte of them.
  private static let sampleLimit = 1 << 20

  func validate() throws {
    try expect((1...1_000_000).contains(steps), "--steps", "1 to 1000000", got: steps)
    for size in batchSizes { try expect((2...65536).contains(size), "--batch-size", "2 to 65536", got: size) }
    let samples = (batchSizes.max() ?? 256) * steps
    try expect(samples <= Self.sampleLimit, "--steps", "at most \(Self.sampleLimit) samples a run", got: samples)
  }

  /// Each network at each batch size.
  var jobs: [(recipe: Recipe, batchSize: Int)] {
    (recipes.isEmpty ? [.mnistBN, .handsOn] : recipes).flatMap { recipe in
      (batchSizes.isEmpty ? [32, 256] : batchSizes).map { (recipe, $0) }
    }
  }
}

/// What a job took in each of its runs, in seconds or another unit.
struct Timing {
  private(set) var samples: [Double] = []

  var minimum: Double { samples.min() ?? .nan }
  var median: Double { samples.median ?? .nan }
  var extract: ComparedRow.Extract { (minimum, median) }

  mutating func append(_ sample: Double) { samples.append(sample) }

  /// Seconds that `work` takes.
  static func seconds(of work: () throws -> Void) rethrows -> Double {
    let begin = ContinuousClock.now
    try work()
    return (ContinuousClock.now - begin) / .seconds(1)
  }
}
