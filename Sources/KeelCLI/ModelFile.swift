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

  /// The type in which the model's values are stored, or that in which those of a type of storage are computed.
  private var dtype: DType { saved.model.state.first?.value.dtype.arithmetic ?? .float32 }

  /// Uses a model on a device as it is: values keep the type they are stored in, and nothing is learnt, so an optimizer
  /// without state takes no room.
  ///
  /// - Parameter model: one made of the saved one; nil for that itself.
  func trainer(of model: Model? = nil, on device: Device) throws -> Trainer {
    try Trainer(
      model ?? saved.model, loss: description.loss, optimizer: SGD(learningRate: 0), on: device, dtype: dtype)
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
