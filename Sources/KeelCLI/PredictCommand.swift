import ArgumentParser
import Foundation
import Keel

struct PredictCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "predict", abstract: "Classifies images with a saved model.",
    discussion: """
      Images are PGM files (one image each) or IDX files (many), of the size that the model was trained on. Without \
      files, they are test images of a data set: those of --index, else the first ten.
      """)

  @Argument(help: ArgumentHelp("A file that `keel train` saved.", valueName: "model"))
  var path: String

  @Argument(help: ArgumentHelp("PGM or IDX files, plain or gzip.", valueName: "images"))
  var files: [String] = []

  @Option(
    name: .customLong("index"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp("A test image of the data set, from 0; may be given several times.", valueName: "n"))
  var indices: [Int] = []

  @OptionGroup var dataOptions: DataOptions

  @Flag(help: "Swap black and white, for dark ink on light paper.")
  var invert = false

  @OptionGroup var deviceOptions: DeviceOptions

  @Flag(help: "Print one JSON object on standard output, everything else on standard error.")
  var json = false

  func validate() throws {
    if !files.isEmpty, !indices.isEmpty || dataOptions.data != nil || dataOptions.dataDir != nil {
      throw ValidationError("--index, --data and --data-dir are for images of a data set, not for files.")
    }
    if dataOptions.data != nil { _ = try dataOptions.choice() }
  }

  /// The line of `--json`.
  struct Report: Encodable {
    var model: String
    var device: String
    var predictions: [Prediction]
  }

  func run() async throws {
    let console = Console(json: json)
    let model = try ModelFile(path)
    let groups = try await images(model, console).map { invert ? try $0.inverted() : $0 }
    for images in groups { try model.check(images.names[0], sampleShape: images.sampleShape) }

    let device = try deviceOptions.select()
    console.progress { _ in "classifying on \(device.name) …" }
    let trainer = try model.trainer(on: device)
    var predictions: [Prediction] = []
    for images in try Self.joined(groups) {
      let outputs = try trainer.predict(images.values, scale: images.scale)
      guard outputs.shape.rank == 2, outputs.shape[0] == images.names.count, outputs.shape[1] > 0 else {
        throw CommandError("predict", "\(path) expects one output a class, gives \(outputs.type)")
      }
      let (values, width) = (outputs.doubles, outputs.shape[1])
      predictions += images.names.enumerated().map { row, name in
        Prediction(
          name, outputs: Array(values[row * width..<(row + 1) * width]), label: images.labels.map { $0[row] })
      }
    }
    console.line(Prediction.table(predictions))
    if json { try console.json(Report(model: path, device: device.name, predictions: predictions)) }
  }

  private func images(_ model: ModelFile, _ console: Console) async throws -> [Images] {
    let (shape, scale) = (model.description.sampleShape, model.description.scale)
    guard files.isEmpty else {
      return try files.map { try Images(reading: $0, sampleShape: shape, scale: scale) }
    }
    let choice = try dataOptions.choice(fallback: model.description.data)
    let test = try await dataOptions.load(choice, console).test
    try model.check(choice.title, sampleShape: test.featureShape, classCount: test.classCount)
    return [
      try Images(test, indices: indices.isEmpty ? Array(0..<min(10, test.count)) : indices, name: choice.title)
    ]
  }

  /// Neighbours of one type and scale as one, so that many files of one image each are one call.
  static func joined(_ groups: [Images]) throws -> [Images] {
    var runs: [[Images]] = []
    for images in groups {
      if let last = runs.last?.last, last.values.dtype == images.values.dtype, last.scale == images.scale,
        last.sampleShape == images.sampleShape, last.labels == nil, images.labels == nil
      {
        runs[runs.count - 1].append(images)
      } else {
        runs.append([images])
      }
    }
    return try runs.map { run in
      guard run.count > 1, let first = run.first else { return run[0] }
      let names = run.flatMap(\.names)
      let type = TensorType(Shape([names.count] + first.sampleShape.dimensions), first.values.dtype)
      return Images(
        values: try HostTensor(type, bytes: run.flatMap(\.values.bytes)), scale: first.scale, names: names)
    }
  }
}
