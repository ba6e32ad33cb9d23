import Foundation
import KeelCore
import KeelIO

/// Four IDX files in a folder, named as MNIST's are: MNIST itself, Fashion-MNIST, KMNIST, and one's own.
public enum IDXFolder {
  /// The four files, by their plain names.
  public static let names = [
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
  ]

  /// Reads the four files: features `u8[n, height, width]`.
  ///
  /// Each may be plain or gzip, and be called `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, with or without
  /// `.gz`.
  ///
  /// - Throws: `DatasetError` that lists what was looked for, or the reader's error naming the file.
  public static func load(_ directory: String, name: String, classCount: Int = 10, scale: Double = 1.0 / 255) throws
    -> DatasetPair
  {
    let paths = try names.map { file in
      guard let path = find(file, in: directory) else { throw missing(name, searched: [directory]) }
      return path
    }
    func dataset(_ images: String, _ labels: String) throws -> Dataset {
      let pair = try IDX.readPair(images: images, labels: labels, classCount: classCount)
      return try Dataset(
        name: name, features: pair.images, labels: pair.labels, classCount: classCount, scale: scale)
    }
    return try DatasetPair(train: dataset(paths[0], paths[1]), test: dataset(paths[2], paths[3]))
  }

  /// The path of one of the four files in a folder, under any of its names; nil when it is not there.
  static func find(_ name: String, in directory: String) -> String? {
    variants(of: name).lazy.map { directory + "/" + $0 }.first {
      var isDirectory: ObjCBool = false
      return FileManager.default.fileExists(atPath: $0, isDirectory: &isDirectory) && !isDirectory.boolValue
    }
  }

  static func isComplete(_ directory: String) -> Bool { names.allSatisfy { find($0, in: directory) != nil } }

  static func missing(_ name: String, searched directories: [String]) -> DatasetError {
    var lines = ["expects four files in one folder, plain or .gz; not there:"]
    for directory in directories {
      let absent = names.filter { find($0, in: directory) == nil }
      lines.append(
        "  \(directory): " + (FileManager.default.fileExists(atPath: directory) ? "" : "(no such folder) ")
          + absent.joined(separator: ", "))
    }
    lines.append("(train-images.idx3-ubyte and the like are also read)")
    return DatasetError(name, lines.joined(separator: "\n"))
  }

  private static func variants(of name: String) -> [String] {
    let dotted = name.replacingOccurrences(of: "-idx", with: ".idx")
    return [name, name + ".gz", dotted, dotted + ".gz"]
  }
}
