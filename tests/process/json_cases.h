/*
 * Cases for a JSON parser, made by ourselves: y_ must be read, n_ must be refused, i_ may be
 * either.  A name is the letter, what the case is about, and a number where there are several.
 */
#ifndef CORDON_TESTS_PROCESS_JSON_CASES_H
#define CORDON_TESTS_PROCESS_JSON_CASES_H

#include <string>
#include <vector>

namespace json_cases {

struct JsonCase {
    std::string name;
    std::string text;
};

inline std::string Repeat(const std::string &text, int count) {
    std::string all;

    for (int i = 0; i < count; i++)
        all += text;
    return all;
}

inline std::string Hex(unsigned value, int digits) {
    static const char hex[] = "0123456789abcdef";
    std::string text;

    for (int i = digits - 1; i >= 0; i--)
        text += hex[value >> (4 * i) & 15];
    return text;
}

class Cases {
public:
    /* The text, inside an array and inside an object. */
    void InAll(const std::string &name, const std::string &text) {
        Add(name + "_alone", text);
        Add(name + "_in_array", "[" + text + "]");
        Add(name + "_in_object", "{\"a\":" + text + "}");
    }
    void Add(const std::string &name, const std::string &text) { all.push_back({name, text}); }
    void AddEach(const std::string &name, const std::vector<std::string> &texts) {
        for (size_t i = 0; i < texts.size(); i++)
            Add(name + "_" + std::to_string(i + 1), texts[i]);
    }

    std::vector<JsonCase> all;
};

inline void AddStrings(Cases *c) {
    /* Every short escape, and none that is not one. */
    for (char e : std::string("\"\\/bfnrt"))
        c->Add(std::string("y_string_escape_") + Hex((unsigned char)e, 2),
               std::string("{\"a\":\"\\") + e + "\"}");
    for (char e : std::string("acdeghijklmopqsvwxyzABNU019'@ "))
        c->Add(std::string("n_string_escape_") + Hex((unsigned char)e, 2),
               std::string("{\"a\":\"\\") + e + "\"}");
    /* A control character in a string has to be escaped; a line break ends the line itself. */
    for (unsigned byte = 1; byte < 0x20; byte++) {
        if (byte != '\n')
            c->Add("n_string_control_" + Hex(byte, 2),
                   std::string("{\"a\":\"") + (char)byte + "\"}");
        c->Add("y_string_escaped_control_" + Hex(byte, 2), "{\"a\":\"\\u00" + Hex(byte, 2) + "\"}");
    }
    c->Add("y_string_delete", "{\"a\":\"\x7f\"}");
    c->AddEach("y_string_utf8",
               {"{\"a\":\"\xc2\x80\"}", "{\"a\":\"\xdf\xbf\"}", "{\"a\":\"\xe0\xa0\x80\"}",
                "{\"a\":\"\xed\x9f\xbf\"}", "{\"a\":\"\xee\x80\x80\"}", "{\"a\":\"\xef\xbf\xbf\"}",
                "{\"a\":\"\xf0\x90\x80\x80\"}", "{\"a\":\"\xf4\x8f\xbf\xbf\"}",
                "{\"\xc3\xa4\":\"\xe2\x80\xa8\xe2\x80\xa9\"}"});
    c->AddEach("n_string_bad_utf8",
               {"{\"a\":\"\x80\"}", "{\"a\":\"\xbf\"}", "{\"a\":\"\xc0\x80\"}",
                "{\"a\":\"\xc1\xbf\"}", "{\"a\":\"\xc3\"}", "{\"a\":\"\xc3(\"}",
                "{\"a\":\"\xe0\x80\x80\"}", "{\"a\":\"\xe2\x82\"}", "{\"a\":\"\xed\xa0\x80\"}",
                "{\"a\":\"\xed\xbf\xbf\"}", "{\"a\":\"\xf0\x80\x80\x80\"}",
                "{\"a\":\"\xf4\x90\x80\x80\"}", "{\"a\":\"\xf5\x80\x80\x80\"}",
                "{\"a\":\"\xf8\x88\x80\x80\x80\"}", "{\"a\":\"\xfe\"}", "{\"a\":\"\xff\"}",
                "{\"\xff\":1}"});
    c->AddEach("y_string_unicode", {R"({"a":"\u0041"})", R"({"a":"\u00e4"})", R"({"a":"\u20AC"})",
                                    R"({"a":"\uD83D\uDE00"})", R"({"a":"\udbff\udfff"})",
                                    R"({"a":"\uFFFF"})", R"({"\u0061":1,"b":2})"});
    c->AddEach("n_string_unicode",
               {R"({"a":"\u"})", R"({"a":"\u0"})", R"({"a":"\u00"})", R"({"a":"\u004"})",
                R"({"a":"\u00zz"})", R"({"a":"\U0041"})", R"({"a":"\uD83D"})", R"({"a":"\uDE00"})",
                R"({"a":"\uD83D\u0041"})", R"({"a":"\uD83Dx"})", R"({"a":"\u-041"})",
                R"({"a":"\u+041"})"});
    c->AddEach("n_string_nul", {R"({"a":"\u0000"})", R"({"\u0000":1})", R"({"a":"x\u0000y"})"});
    c->AddEach("n_string_end", {"{\"a\":\"", "{\"a\":\"x", "{\"a\":\"\\", "{\"a\":\"\\\"",
                                "{\"a\":\"\\u12", "{\"a"});
    c->AddEach("n_string_quotes",
               {"{'a':1}", "{\"a\":'x'}", "{a:1}", "{\"a\":x}", "{\"a\":\"x\"y}",
                "{\"a\":\"x\"\"y\"}", "{`a`:1}", "{\"a\":\xe2\x80\x9cx\xe2\x80\x9d}"});
    c->Add("y_string_empty", R"({"":""})");
    c->Add("y_string_long", "{\"a\":\"" + std::string(30000, 'x') + "\"}");
}

inline void AddNumbers(Cases *c) {
    int i = 0;

    for (const char *text : {"0",
                             "-0",
                             "1",
                             "-1",
                             "10",
                             "9007199254740993",
                             "9223372036854775807",
                             "-9223372036854775808",
                             "0.5",
                             "-0.5",
                             "1.0",
                             "1e1",
                             "1E1",
                             "1e+1",
                             "1e-1",
                             "0e0",
                             "0e+1",
                             "1.5e300",
                             "123.456e-78",
                             "20e1"})
        c->InAll("y_number_" + std::to_string(++i), text);
    i = 0;
    for (const char *text :
         {"01",  "-01",   "00",   "-",     "+1",   "--1",  "1.",          ".5",
          "-.5", "1.e1",  "1e",   "1e+",   "1e-",  "1.5e", "0x10",        "0b1",
          "0o7", "1_000", "1,5e", "1 000", "NaN",  "nan",  "Infinity",    "-Infinity",
          "inf", "1f",    "1L",   "1e1.5", "1..2", "- 1",  "\xef\xbc\x91"})
        c->Add("n_number_" + std::to_string(++i), std::string("{\"a\":") + text + "}");
    c->AddEach("i_number",
               {"{\"a\":1e999}", "{\"a\":-1e999}", "{\"a\":1e-999}", "{\"a\":9223372036854775808}",
                "{\"a\":-9223372036854775809}", "{\"a\":" + std::string(1000, '9') + "}",
                "{\"a\":0." + std::string(1000, '1') + "}",
                "{\"a\":1e" + std::string(100, '0') + "1}"});
}

inline void AddWords(Cases *c) {
    for (const char *word : {"true", "false", "null"})
        c->InAll(std::string("y_word_") + word, word);
    int i = 0;
    for (const char *word : {"True", "TRUE", "tru", "truee", "nul", "nulll", "Null", "fals",
                             "False", "undefined", "none", "t", "n", "yes", "truefalse", "null1"})
        c->Add("n_word_" + std::to_string(++i), std::string("{\"a\":") + word + "}");
}

inline void AddArrays(Cases *c) {
    c->AddEach("y_array", {"{\"a\":[]}", "{\"a\":[[]]}", "{\"a\":[1,2,3]}", "{\"a\":[ 1 , 2 ]}",
                           "{\"a\":[null,true,\"x\",{},[]]}", "{\"a\":[\"\"]}",
                           "{\"a\":[[],[[]],{}]}", "{\"a\":[" + Repeat("0,", 5000) + "0]}"});
    c->AddEach("n_array", {"{\"a\":[}",
                           "{\"a\":]}",
                           "{\"a\":[1}",
                           "{\"a\":[1,}",
                           "{\"a\":[1,]}",
                           "{\"a\":[,1]}",
                           "{\"a\":[,]}",
                           "{\"a\":[1,,2]}",
                           "{\"a\":[1 2]}",
                           "{\"a\":[1;2]}",
                           "{\"a\":[1:2]}",
                           "{\"a\":[\"x\":1]}",
                           "{\"a\":[[1]}",
                           "{\"a\":[1]]}",
                           "{\"a\":(1)}",
                           "{\"a\":[1)}",
                           "{\"a\":[...]}",
                           "{\"a\":[-]}",
                           "{\"a\":[\"x\" \"y\"]}",
                           "{\"a\":[1,2",
                           "[1",
                           "[",
                           "]",
                           "[]]",
                           "[}",
                           "[1,]"});
}

inline void AddObjects(Cases *c) {
    c->AddEach("y_object", {"{}", "{ }", "{\"a\":1}", "{\"a\":{}}", "{\"a\":{\"a\":{\"a\":1}}}",
                            "{\"a\":1,\"b\":2}", "{\"a\":1,\"A\":2}", "{\"a b\":1}", "{\"1\":1}",
                            "{\"a\\\"b\":1}", "{\"a\":{\"b\":1},\"b\":{\"a\":1}}"});
    c->AddEach("n_object", {"{",
                            "}",
                            "{\"a\"",
                            "{\"a\":",
                            "{\"a\":1",
                            "{\"a\":1,",
                            "{\"a\"}",
                            "{\"a\":}",
                            "{:1}",
                            "{1:1}",
                            "{null:1}",
                            "{\"a\" 1}",
                            "{\"a\"=1}",
                            "{\"a\"=>1}",
                            "{\"a\"::1}",
                            "{\"a\":1,}",
                            "{,\"a\":1}",
                            "{,}",
                            "{\"a\":1,,\"b\":2}",
                            "{\"a\":1;\"b\":2}",
                            "{\"a\":1 \"b\":2}",
                            "{\"a\",\"b\"}",
                            "{[]:1}",
                            "{{}:1}",
                            "{\"a\":1}}",
                            "{{\"a\":1}",
                            "{\"a\":{}",
                            "{\"a\":1]",
                            "{...}",
                            "{\"a\":1 b}"});
    c->AddEach("n_object_twice", {"{\"a\":1,\"a\":1}", "{\"a\":1,\"a\":2}", "{\"\":1,\"\":1}",
                                  "{\"x\":{\"a\":1,\"a\":1}}", "{\"x\":[{\"a\":1,\"a\":1}]}",
                                  "{\"a\":1,\"\\u0061\":1}"});
}

inline void AddStructure(Cases *c) {
    c->AddEach("y_space", {" {\"a\":1}", "{\"a\":1} ", "\t{\t\"a\"\t:\t1\t}\t",
                           "\r{\r\"a\"\r:\r1\r}\r", "{\"a\" : [ 1 , 2 ] , \"b\" : { } }"});
    c->AddEach("n_space", {"\v{}", "{}\f", "\xc2\xa0{}", "{}\xe2\x80\x83", "\xef\xbb\xbf{}",
                           "{\"a\":\v1}", "{\"a\"\xe2\x80\x8b:1}", "{\"a\":\x08\x31}"});
    c->AddEach("n_trailing", {"{}x", "{} {}", "{},", "{};", "{}1", "{}\"\"", "{}[]", "{}null",
                              "{}}", "{}#", "{}\\"});
    c->AddEach("n_comment", {"{}//", "{}/**/", "/**/{}", "{/**/}", "{\"a\":/*x*/1}", "{\"a\":1#x}",
                             "<!-- -->{}", "{\"a\":1--}"});
    c->AddEach("n_not_json", {"", " ", "<a/>", "a: 1", "a=1", "GET / HTTP/1.1", "---", "*", "@",
                              "\\", "&", "{\"a\":@}", "{\"a\":$1}", "{\"a\":%}", "{\"a\":&b}",
                              "\x1b[A", "\x16\x03\x01\x02"});
    c->AddEach("n_nul", {std::string("\0", 1), std::string("{\0}", 3), std::string("{}\0", 3),
                         std::string("\0{}", 3), std::string("{\"a\0b\":1}", 9),
                         std::string("{\"a\":\"\0\"}", 9), std::string("{\"a\":1\0}", 8)});
    c->Add("y_deep_arrays", "{\"a\":" + Repeat("[", 29) + Repeat("]", 29) + "}");
    c->Add("y_deep_objects", Repeat("{\"a\":", 29) + "1" + Repeat("}", 29));
    c->Add("i_deeper_arrays", "{\"a\":" + Repeat("[", 33) + Repeat("]", 33) + "}");
    c->Add("i_deeper_objects", Repeat("{\"a\":", 33) + "1" + Repeat("}", 33));
    c->Add("i_deepest_arrays", "{\"a\":" + Repeat("[", 30000) + Repeat("]", 30000) + "}");
    c->Add("n_deepest_arrays_unclosed", "{\"a\":" + Repeat("[", 60000));
    c->Add("n_deepest_objects_unclosed", Repeat("{\"a\":", 12000));
    c->Add("i_many_values", "{\"a\":[" + Repeat("0,", 15000) + "0]}");
    c->Add("i_many_empty_objects", "{\"a\":[" + Repeat("{},", 15000) + "{}]}");
}

/* All of them; at least 318. */
inline std::vector<JsonCase> All() {
    Cases c;

    AddStrings(&c);
    AddNumbers(&c);
    AddWords(&c);
    AddArrays(&c);
    AddObjects(&c);
    AddStructure(&c);
    return c.all;
}

} // namespace json_cases

#endif
