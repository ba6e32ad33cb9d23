import Foundation
import KeelNN

extension Model {
  /// The names of frozen variables as a JSON list; nil when there are none, as in files of models that have none.
  func frozenList() throws -> String? {
    let names = frozenVariables
    return names.isEmpty ? nil : String(decoding: try JSONEncoder().encode(names), as: UTF8.self)
  }

  /// Freezes the variables of such a list. Throws when it can't be read or names something that the model has not.
  func freeze(listed text: String?) throws {
    guard let text else { return }
    let known = Set(trainedVariables + frozenVariables)
    for name in try JSONDecoder().decode([String].self, from: Data(text.utf8)) {
      guard known.contains(name) else {
        throw SettingsError("load", "\(name) is to be frozen and is no variable of the model")
      }
      try freeze(name)
    }
  }
}
