import ArgumentParser
import Foundation
import Keel

struct RecalibrateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recalibrate", abstract: "Computes a saved model's batch-norm statistics anew.",
    discussion: """
      The training images pass once through the network as it is now; the running statistics become those of what each \
      batch norm saw. Nothing is learnt. Without --data these are the images that the model was trained on.

      Modes:
        exact    mean and variance of all values, however they were cut into batches
        average  every batch's mean and variance with the same weight, as PyTorch's update_bn
      """)

  enum Mode: String, ExpressibleByArgument, CaseIterable {
    case exact, average

    var value: Recalibration.Mode { self == .exact ? .exact : .averageOfBatches }
  }

  @OptionGroup var options: ChangeOptions

  @Option(help: ArgumentHelp("What the batches' statistics are made into.", valueName: "mode"))
  var mode = Mode.exact

  @Option(parsing: .unconditional, help: ArgumentHelp("Images of a batch.", valueName: "n"))
  var batchSize = 256

  @Option(parsing: .unconditional, help: ArgumentHelp("Of the order of images.", valueName: "n"))
  var seed: UInt64 = 0

  func validate() throws {
    try expect(batchSize > 1, "--batch-size", "2 or more", got: batchSize)
  }

  /// The line of `--json`.
  struct Report: Encodable {
    struct Layer: Encodable {
      var path: String
      var count: Int
    }
    var model: String
    var out: String
    var device: String
    var data: String
    var mode: String
    var batchSize: Int
    var samples: Int
    var batches: Int
    var layers: [Layer]
    var evaluation: Comparison
    var seconds: Figure
  }

  func run() async throws {
    let console = Console(json: options.json)
    let out = options.output("recalibrated")
    try OutputFile.check(out)
    let file = try ModelFile(options.path)
    let device = try options.deviceOptions.select()
    let choice = try options.dataOptions.choice(fallback: file.description.data)
    let data = try await options.dataOptions.load(choice, console)
    try file.check(choice.title, sampleShape: data.test.featureShape, classCount: data.test.classCount)

    let trainer = try file.trainer(on: device)
    let before = try trainer.evaluate(data.test)
    console.progress { _ in "recalibrating on \(device.name) …" }
    let start = Date()
    let result = try trainer.recalibrate(on: data.train, mode: mode.value, batchSize: batchSize, seed: seed)
    let seconds = Date().timeIntervalSince(start)
    let comparison = Comparison(before: before, after: try trainer.evaluate(data.test))
    try file.saved.write(to: out)

    let batches = "\(Text.count(result.batches)) batches of \(min(batchSize, data.train.count))"
    let rows = [
      ["model", file.title],
      ["device", device.name],
      ["data", "\(choice.title), \(Text.count(result.samples)) training images, \(batches)"],
      ["mode", mode.rawValue],
      ["layers", result.layers.map(\.path).joined(separator: ", ")],
      ["time", Text.seconds(seconds)],
      ["saved", out],
    ]
    console.line(TextTable([.left, .left], rows: rows).text)
    console.line()
    console.line(comparison.table)
    if options.json {
      try console.json(
        Report(
          model: file.path, out: out, device: device.name, data: choice.name, mode: mode.rawValue,
          batchSize: batchSize, samples: result.samples, batches: result.batches,
          layers: result.layers.map { Report.Layer(path: $0.path, count: $0.count) }, evaluation: comparison,
          seconds: Figure(seconds)))
    }
  }
}
