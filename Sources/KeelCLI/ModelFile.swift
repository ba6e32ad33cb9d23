import Foundation
import Keel

/// A saved model, checked against what it is asked to look at.
struct ModelFile {
  let path: String
  let saved: SavedModel

  var description: SavedModel.Description { saved.description }

  /// Throws when the file can't be read or its model does not classify.
  init(_ path: String) throws {
    self.path = path
    saved = try SavedModel(reading: path)
    guard description.loss.isClassification, description.classCount > 0 else {
      throw CommandError("model", "\(path): expects a model that classifies, its loss is \(description.loss.rawValue)")
    }
  }

  /// What the model is called in a table.
  var title: String { description.recipe.map { "\(path) (\($0))" } ?? path }

  func trainer(on device: Device) throws -> Trainer {
    // Nothing is learnt: an optimizer without state takes no room.
    try Trainer(saved.model, loss: description.loss, optimizer: SGD(learningRate: 0), on: device)
  }

  /// Throws unless samples of this shape, and where they have classes as many of them, are what the model was made for.
  func check(_ name: String, sampleShape: Shape, classCount: Int? = nil) throws {
    func words(_ shape: Shape, _ classes: Int?) -> String {
      "samples of \(Text.extents(shape.dimensions))" + (classes.map { " in \($0) classes" } ?? "")
    }
    guard sampleShape == description.sampleShape, classCount == nil || classCount == description.classCount else {
      throw CommandError(
        "model",
        "\(path) expects \(words(description.sampleShape, classCount == nil ? nil : description.classCount)), "
          + "got \(words(sampleShape, classCount)) from \(name)")
    }
  }
}
