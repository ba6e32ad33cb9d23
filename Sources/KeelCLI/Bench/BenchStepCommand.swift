import ArgumentParser
import Foundation
import Keel

struct BenchStepCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step", abstract: "Times whole training steps, on noise of MNIST's size.",
    discussion: """
      A row is one network at one batch size; the default is mnist-bn and hands-on at 32 and 256. A run of --steps \
      steps is timed --repeat times, each after one that is not counted; the smallest time and the median are \
      printed. Rates are of the smallest time: operations and bytes of all kernels, though most of these bytes never \
      leave the caches. "of FMA" and "of copy" are their shares of the fastest run of independent multiply-adds and \
      of copies of \(Roofline.uncachedBytes >> 20) MiB, of which one of each follows each run.
      """)

  @OptionGroup var work: StepBenchOptions
  @OptionGroup var options: BenchOptions

  struct Row: Encodable {
    var recipe: String
    var batchSize: Int
    /// The smallest mean of a run.
    var microseconds: Figure
    /// The median of the runs' means.
    var median: Figure
    /// Launches of a step.
    var launches: Int
    /// Of the smallest mean, and their shares of what the device does at best.
    var gflops: Figure
    var shareOfMultiplyAdds: Figure
    var gigabytesPerSecond: Figure
    var shareOfCopy: Figure
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var device: String
    var steps: [Row]
  }

  func run() async throws {
    let console = Console(json: options.json)
    let device = try options.deviceOptions.select()
    console.line("\(device.name): \(options.repeats) runs of \(work.steps) steps\n")
    let columns = TextColumns([
      "recipe": -10, "batch": 6, "µs/step": 9, "median": 9, "launches": 8, "GFLOP/s": 8, "of FMA": 7, "GB/s": 7,
      "of copy": 7,
    ])
    console.line(columns.header)
    var rows: [Row] = []
    for (recipe, batchSize) in work.jobs {
      let row = try measure(recipe, batchSize, device, console)
      rows.append(row)
      console.line(
        columns.line([
          row.recipe, "\(row.batchSize)", Text.microseconds(row.microseconds.value),
          Text.microseconds(row.median.value), "\(row.launches)", Text.rate(row.gflops.value),
          row.shareOfMultiplyAdds.value.map(Text.percent) ?? "–", Text.rate(row.gigabytesPerSecond.value),
          row.shareOfCopy.value.map(Text.percent) ?? "–",
        ]))
    }
    if options.json { try console.json(Report(device: device.name, steps: rows)) }
  }

  private func measure(_ recipe: Recipe, _ batchSize: Int, _ device: Device, _ console: Console) throws -> Row {
    let data = try Dataset.noise(count: work.steps * batchSize)
    let trainer = try Trainer(
      recipe.network(inputs: data.featureCount, classes: data.classCount), loss: .softmaxCrossEntropy,
      optimizer: recipe.optimizer, on: device)
    let title = "\(recipe.rawValue), batch \(batchSize)"
    console.progress { _ in "\(title): compiling …" }
    let start = Date()
    let roofline = try Roofline(ComputeContext(device))
    var (times, multiplyAdds, copy) = ([Double](), 0.0, 0.0)
    for run in 0..<options.repeats {
      // Of two epochs the first does not count: it finds the probes' values in the caches, and the very first pays for
      // what the driver compiles at a kernel's first launch.
      let history = try trainer.fit(data, epochs: 2, batchSize: batchSize) { event in
        if case .progress(let epoch, let step, _) = event {
          console.progress { columns in
            ProgressBar.render(
              title, done: (2 * run + epoch - 1) * work.steps + step, total: 2 * options.repeats * work.steps,
              width: columns, elapsed: Date().timeIntervalSince(start))
          }
        }
        return !console.isClosed
      }
      guard !console.isClosed else { throw ExitCode(Interruption.closedOutputExitCode) }
      times += history.epochs.suffix(1).map { $0.trainSeconds / Double($0.steps) * 1e6 }
      multiplyAdds = max(multiplyAdds, try roofline.flopsPerSecond())
      copy = max(copy, try roofline.bytesPerSecond())
    }
    let cost = try trainer.stepWork()
    let seconds = times.min().map { $0 * 1e-6 } ?? .nan
    return Row(
      recipe: recipe.rawValue, batchSize: batchSize, microseconds: Figure(times.min()), median: Figure(times.median),
      launches: cost.launches, gflops: Figure(cost.flops / seconds * 1e-9),
      shareOfMultiplyAdds: Figure(cost.flops / seconds / multiplyAdds),
      gigabytesPerSecond: Figure(cost.bytes / seconds * 1e-9), shareOfCopy: Figure(cost.bytes / seconds / copy))
  }
}
