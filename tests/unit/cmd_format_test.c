#include "cmd/format.h"

#include <errno.h>

#include "base/err.h"
#include "base/json.h"
#include "unit.h"

static json_t *sample(void)
{
    static const char text[] =
        "{\"Name\":\"web\",\"N\":3,\"Up\":true,\"None\":null,\"List\":[\"a\",\"b\"],"
        "\"Map\":{\"z\":1,\"a\":2},\"State\":{\"Status\":\"running\"},\"Empty\":[],"
        "\"Labels\":\"a=b,com.x=y=z,e=\"}";
    json_t *json = NULL;
    ck_assert_int_eq(json_parse(text, sizeof(text) - 1, "sample", &json, NULL), 0);
    return json;
}

START_TEST(templates_print_what_docker_prints)
{
    static const struct {
        const char *template, *want;
    } cases[] = {
        {"{{.Name}}", "web"},
        {"<{{ .State.Status }}>", "<running>"},
        {"{{json .List}}", "[\"a\",\"b\"]"},
        {"{{json .}}", NULL},
        {"{{.List}} {{.Map}} {{.None}} {{.Up}}", "[a b] map[a:2 z:1] <nil> true"},
        {"{{range .List}}{{.}},{{end}}", "a,b,"},
        {"{{range $i, $v := .List}}{{$i}}={{$v}} {{end}}", "0=a 1=b "},
        {"{{range $k, $v := .Map}}{{$k}}={{$v}} {{end}}", "a=2 z=1 "},
        {"{{range .Empty}}x{{else}}none{{end}}", "none"},
        {"{{index .Map \"z\"}} {{index .List 1}}", "1 b"},
        {"{{len .List}} {{len .Name}}", "2 3"},
        {"{{upper .Name}} {{.Name | upper | lower}} {{title .Name}}", "WEB web Web"},
        {"{{join .List \"-\"}}", "a-b"},
        {"{{(index .List 0)}}", "a"},
        {"{{if .Up}}yes{{else}}no{{end}}", "yes"},
        {"{{if eq .Name \"db\" \"web\"}}hit{{end}}", "hit"},
        {"{{if not .Up}}a{{else if gt .N 2}}b{{else}}c{{end}}", "b"},
        {"{{with .State}}{{.Status}} {{$.Name}}{{end}}", "running web"},
        {"a {{- .Name -}} b", "awebb"},
        {"{{/* note */}}x", "x"},
        {"{{$x := .N}}{{$x}}", "3"},
        {"{{printf \"%-5s|%d\" .Name .N}}", "web  |3"},
        {"{{pad .Name 1 2}}|", " web  |"},
        {"{{truncate .Name 2}}", "we"},
        {"{{println .Name}}", "web\n"},
        {"{{.Label \"a\"}}+{{$.Label \"com.x\"}}+{{.Label \"e\"}}+{{.Label \"com\"}}", "b+y=z++"},
        {"{{if eq (.Label \"a\") \"b\"}}hit{{end}}", "hit"},
        {"{{.Name}}\\t{{.N}}", "web\t3"},
        {"{{\"}}\"}}", "}}"},
    };
    AUTO(json_unrefp) json_t *json = sample();
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(buf_donep) struct buf out = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(format_value(cases[i].template, json, &out, &err) == 0, "%s: %s",
                      cases[i].template, err_text(&err));
        if (cases[i].want != NULL) {
            ck_assert_str_eq(out.data, cases[i].want);
        }
    }
}
END_TEST

START_TEST(wrong_templates_say_where)
{
    static const char *const cases[] = {
        "{{",
        "{{.Name",
        "{{end}}",
        "{{if .Up}}x",
        "{{nosuch .}}",
        "{{.Missing}}",
        "{{else}}",
        "{{range .Name}}{{end}}",
        "{{index .List 9}}",
        "{{len 3}}",
        "{{\"x}}",
        "{{(.Name}}",
        "{{.Name .N}}",
        "{{}}{{|}}",
        "{{$nope}}",
        "{{/* x}}",
        "{{join .Name 3}}",
        "{{.Name]}}",
        "{{if .Up}}{{else}}{{else}}{{end}}",
        "{{printf \"%x\" .N}}",
    };
    AUTO(json_unrefp) json_t *json = sample();
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(buf_donep) struct buf out = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(format_value(cases[i], json, &out, &err) == -EINVAL, "%s", cases[i]);
        ck_assert_int_ne(err.code, 0);
    }
}
END_TEST

START_TEST(tables_are_aligned_below_their_titles)
{
    static const struct format_header headers[] = {{"Name", "IMAGE NAME"}, {0}};
    AUTO(format_freep) struct format *format = NULL;
    AUTO(json_unrefp) json_t *json = sample();
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    ck_assert_int_eq(
        format_new("table {{.Name}}\t{{.State.Status}}\t{{.N}}", headers, &format, NULL), 0);
    ck_assert_int_eq(format_add(format, json, NULL), 0);
    ck_assert_int_eq(format_finish(format, out, NULL), 0);
    (void)fclose(out);
    ck_assert_str_eq(text, "IMAGE NAME   STATUS    N\nweb          running   3\n");
    free(text);
}
END_TEST

int main(void)
{
    return unit_run("cmd/format", (const TTest *const[]){
                                      templates_print_what_docker_prints,
                                      wrong_templates_say_where,
                                      tables_are_aligned_below_their_titles,
                                      NULL,
                                  });
}
