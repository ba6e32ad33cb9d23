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

/// Lines of a table that are printed as they come: widths are known before.
struct BenchColumns {
  /// Titles with widths; words stand to the left where the width is negative, numbers to the right.
  private let columns: KeyValuePairs<String, Int>

  init(_ columns: KeyValuePairs<String, Int>) { self.columns = columns }

  var header: String { line(columns.map(\.key)) }

  func line(_ cells: [String]) -> String {
    let padded = zip(columns, cells).map { column, cell in
      let padding = String(repeating: " ", count: max(abs(column.value) - cell.count, 0))
      return column.value > 0 ? padding + cell : cell + padding
    }
    return padded.joined(separator: "  ")
  }
}
