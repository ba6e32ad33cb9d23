import ArgumentParser
import Foundation
import Keel

struct TrainCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Trains a network and saves it.",
    discussion: """
      Recipes:
        mnist-bn     Linear, batch norm, ReLU, twice with 32 units, then Linear
        mnist-plain  the same without batch norm
        hands-on     batch norm first and before each activation: 300 ELU, 100 ELU

      Ctrl-C stops within 64 steps and saves; exit code \(Interruption.exitCode). A loss that is not finite stops, \
      too, and the model is saved as it was before that step; exit code 1.
      """)

  @Argument(help: ArgumentHelp("The network and its settings.", valueName: "recipe"))
  var recipe = Recipe.mnistBN

  @OptionGroup var dataOptions: DataOptions

  @Option(parsing: .unconditional, help: ArgumentHelp("Passes over the data. (default: 10)", valueName: "n"))
  var epochs: Int?

  @Option(parsing: .unconditional, help: ArgumentHelp("Samples of a step. (default: 32)", valueName: "n"))
  var batchSize: Int?

  @Option(parsing: .unconditional, help: ArgumentHelp("Of Adam. (default: 0.01)", valueName: "rate"))
  var learningRate: Double?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Of first weights and order of samples; the same seed gives the same bits.", valueName: "n"))
  var seed: UInt64 = 0

  @OptionGroup var deviceOptions: DeviceOptions

  @Option(
    help: ArgumentHelp("Where the model is saved. (default: keel-<recipe>.safetensors)", valueName: "file"))
  var out: String?

  @Flag(help: "Leave out steps whose loss is infinite or not a number, and count them, instead of stopping.")
  var skipNonFinite = false

  @Flag(
    help: """
      Keep the samples in host memory and send windows of them to the device, as happens by itself with sets that the \
      device has no room for. The same bits are learnt.
      """)
  var stream = false

  @Flag(
    help: """
      Print the time of each launch of a step, none merged, and write a trace beside the model for Perfetto or \
      chrome://tracing: keel-<recipe>.trace.json.
      """)
  var profile = false

  @Flag(help: "Print one JSON object on standard output, everything else on standard error.")
  var json = false

  private var outputPath: String { out ?? "keel-\(recipe.rawValue).safetensors" }

  func validate() throws {
    if let epochs { try expect(epochs > 0, "--epochs", "1 or more", got: epochs) }
    if let batchSize { try expect(batchSize > 0, "--batch-size", "1 or more", got: batchSize) }
    if let learningRate {
      try expect(
        learningRate.isFinite && learningRate > 0, "--learning-rate", "a number above 0", got: learningRate)
    }
    _ = try dataOptions.choice()
  }

  func run() async throws {
    let console = Console(json: json)
    try OutputFile.check(outputPath)
    if profile { try OutputFile.check(tracePath) }
    let device = try deviceOptions.select()
    let choice = try dataOptions.choice()
    let data = try await dataOptions.load(choice, console)

    var optimizer = recipe.optimizer
    if let learningRate { optimizer.learningRate = learningRate }
    let job = TrainingReport.Job(
      recipe: recipe, device: device.name, data: choice.name,
      batchSize: min(batchSize ?? recipe.batchSize, data.train.count), learningRate: optimizer.learningRate,
      seed: seed)
    let run = TrainingRun(
      job: job, data: data, epochs: epochs ?? recipe.epochs, optimizer: optimizer,
      onNonFiniteLoss: skipNonFinite ? .skip : .stop, placement: stream ? .streamed : .automatic, profiles: profile,
      console: console)
    try withExtendedLifetime(run.interruption) {
      let (model, report, timeline) = try run.train(
        on: device, header: header(job, choice, data, run.placement, device))
      if let timeline { try write(timeline, console) }
      try finish(model, report, choice, data, console)
    }
  }

  private func header(
    _ job: TrainingReport.Job, _ choice: DataChoice, _ data: DatasetPair, _ placement: DataPlacement, _ device: Device
  ) throws -> String {
    let samples = "\(Text.count(data.train.count)) training and \(Text.count(data.test.count)) test images"
    let settings = "batch \(job.batchSize), Adam \(job.learningRate), seed \(seed)"
    let reason = placement.streamingReason(data.train, batchSize: job.batchSize, on: device)
    let streamed = reason.map { "streamed, \($0)" }
    let resident = stream ? "on the device: the two windows of a stream hold them all" : nil
    let database = TuningDatabase()
    let count = database.choices(for: device, kernels: try TuningDatabase.kernels()).entries.count
    var rows = [["recipe", job.recipe.rawValue], ["device", job.device]]
    if count > 0 {
      let choices = "\(count) choice\(count == 1 ? "" : "s")"
      rows.append(["tuned", "\(choices) of kernels in \(database.file?.path ?? "no file")"])
    }
    rows.append(["data", "\(choice.title), \(samples) of \(Text.extents(data.train.featureShape.dimensions))"])
    rows.append(["training", "\(epochs ?? recipe.epochs) epochs, \(settings)"])
    if let place = streamed ?? resident { rows.append(["samples", place]) }
    return TextTable([.left, .left], rows: rows).text
  }

  private var tracePath: String {
    (outputPath.hasSuffix(".safetensors") ? String(outputPath.dropLast(12)) : outputPath) + ".trace.json"
  }

  /// Prints the launches of a step, and writes their trace.
  private func write(_ timeline: Timeline, _ console: Console) throws {
    try AtomicFile.write(timeline.trace(), to: tracePath)
    console.line("\n\(LaunchTable.text(timeline))\ntrace in \(tracePath)")
  }

  /// Saves what is worth it, prints the end, and throws the exit code of a run that did not go well.
  private func finish(
    _ model: Model, _ report: TrainingReport, _ choice: DataChoice, _ data: DatasetPair, _ console: Console
  ) throws {
    var report = report
    let isFinite = model.state.allSatisfy { $0.value.doubles.allSatisfy(\.isFinite) }
    if report.updates > 0, isFinite {
      guard let network = model.configuration else {
        throw CommandError("train", "expects a network that can be described, \(recipe.rawValue) can't")
      }
      let description = SavedModel.Description(
        network: network, loss: .softmaxCrossEntropy, sampleShape: data.train.featureShape, scale: data.train.scale,
        classCount: data.train.classCount, data: choice.name, recipe: recipe.rawValue)
      try SavedModel(model, description).write(to: outputPath)
      report.model = outputPath
    }

    console.line()
    console.line(report.table)
    if json { try console.json(report) }
    if let divergence = report.divergence {
      let existing = FileManager.default.fileExists(atPath: outputPath) ? "; \(outputPath) stays as it was" : ""
      let saved =
        if report.model != nil {
          "The model as it was after \(Text.count(report.updates)) steps is saved in \(outputPath)"
        } else if isFinite {
          "Nothing was learnt and nothing is saved\(existing)"
        } else {
          "The model has values that are not finite and is not saved\(existing)"
        }
      throw CommandError("train", "\(divergence). \(saved)")
    }
    guard isFinite else {
      throw CommandError("train", "the model has values that are not finite and is not saved")
    }
    if console.isClosed {
      console.note("stopped: nobody reads the output" + (report.model.map { "; saved \($0)" } ?? ""))
      throw ExitCode(Interruption.closedOutputExitCode)
    }
    if report.interrupted {
      console.note("interrupted" + (report.model.map { "; saved \($0)" } ?? " before the first step; nothing saved"))
      throw ExitCode(Interruption.exitCode)
    }
  }
}

/// The file that a command is going to write.
enum OutputFile {
  /// Throws what would stand in the way of writing, before the work is done.
  static func check(_ path: String) throws {
    let files = FileManager.default
    var isDirectory: ObjCBool = false
    guard !path.isEmpty else { throw CommandError("out", "expects the name of a file, got none") }
    if files.fileExists(atPath: path, isDirectory: &isDirectory), isDirectory.boolValue {
      throw CommandError("out", "\(path): expects a file, this is a folder")
    }
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
    guard files.fileExists(atPath: folder, isDirectory: &isDirectory), isDirectory.boolValue, !path.hasSuffix("/")
    else { throw CommandError("out", "\(path): there is no folder \(folder)") }
    guard files.isWritableFile(atPath: folder) else {
      throw CommandError("out", "\(path): the folder \(folder) is not writable")
    }
  }
}
